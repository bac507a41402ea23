# SPDX-License-Identifier: Apache-2.0
"""forkserver, spawn and the resource tracker."""

import multiprocessing
import os
import signal
from multiprocessing import resource_tracker
from typing import Any


def main() -> None:
    forkserver = multiprocessing.get_context("forkserver")
    process = forkserver.Process(target=os.getpid)
    process.start()  # forks; reaps, perhaps: resource_tracker
    process.join()  # reaps somewhere: forkserver
    spawn = multiprocessing.get_context("spawn")
    spawned = spawn.Process(target=os.getpid)
    spawned.start()  # forks
    spawned.join()  # reaps: join
    tracker: Any = resource_tracker._resource_tracker
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.kill(tracker._pid, signal.SIGKILL)
    os.waitid(os.P_PID, tracker._pid, os.WEXITED | os.WNOWAIT)
    tracker.ensure_running()  # forks; reaps: resource_tracker


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # the tracker's own, of its sudden end
    main()
