# SPDX-License-Identifier: Apache-2.0
"""multiprocessing: each call that reaps."""

import multiprocessing
import os
import time

fork = multiprocessing.get_context("fork")


def start(target=os.getpid):
    process = fork.Process(target=target)
    process.start()  # forks; reaps: start -> _cleanup
    return process


def dead():
    """A process that has died, and is not reaped."""
    process = start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def long():
    time.sleep(1)


def briefly():
    time.sleep(0.2)


def main():
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
    kept = start(long)  # so that join() has to wait: of a dead child's it cannot be told
    kept.join(timeout=60)  # reaps: join(timeout)
    with fork.Manager() as manager:  # forks; reaps: join(timeout)
        manager.list()
    global left
    left = [dead(), start(briefly)]
    # reaps somewhere: atexit


if __name__ == "__main__":
    main()
