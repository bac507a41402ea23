# SPDX-License-Identifier: Apache-2.0
"""multiprocessing: each call that reaps."""

import multiprocessing
import os
import time
from multiprocessing.context import ForkProcess
from typing import Callable

fork = multiprocessing.get_context("fork")
left: list[ForkProcess] = []  # until the interpreter ends


def start(target: Callable[[], object] = os.getpid) -> ForkProcess:
    process = fork.Process(target=target)
    process.start()  # forks; reaps: start -> _cleanup
    return process


def dead() -> ForkProcess:
    """Return a process that has died and is not reaped."""
    process = start()
    assert process.pid is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def long() -> None:
    time.sleep(1)


def briefly() -> None:
    time.sleep(0.2)


def main() -> None:
    start(briefly).join()  # reaps: join
    dead().join(0)  # reaps: join(timeout)
    start(briefly).join(60)  # reaps: join(timeout)
    kept = dead()
    start(briefly).join()  # reaps: join
    kept.join()
    kept = dead()
    multiprocessing.active_children()  # reaps: active_children
    kept = dead()
    kept.is_alive()  # reaps: is_alive
    kept = dead()
    kept.exitcode  # noqa: B018 # reaps: exitcode
    kept = dead()
    kept.close()  # reaps: close
    kept = start(long)  # join() must block: with a dead child its timeout is not visible
    kept.join(timeout=60)  # reaps: join(timeout)
    with fork.Manager() as manager:  # forks; reaps: join(timeout)
        manager.list()
    left.extend([dead(), start(briefly)])
    # reaps somewhere: atexit


if __name__ == "__main__":
    main()
