# SPDX-License-Identifier: Apache-2.0
"""billiard: its Process and its Pool."""

import os
import time

import billiard
import billiard.pool


def briefly() -> None:
    time.sleep(0.2)


if __name__ == "__main__":
    process = billiard.Process(target=briefly)
    process.start()  # forks
    process.join()  # reaps: billiard
    process = billiard.Process(target=os.getpid)
    process.start()  # forks
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process = billiard.Process(target=briefly)
    process.start()  # forks; reaps: start -> _cleanup
    process.join()  # reaps: billiard
    pool = billiard.pool.Pool(1, maxtasksperchild=1)  # forks
    for _ in range(3):
        pool.apply(os.getpid)
    pool.close()
    pool.join()  # reaps, perhaps: billiard
    # reaps somewhere: billiard
