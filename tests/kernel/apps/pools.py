# SPDX-License-Identifier: Apache-2.0
"""Pools of processes: who reaps their workers."""

import concurrent.futures
import multiprocessing
import os

fork = multiprocessing.get_context("fork")


def work(number: int) -> int:
    return number


def one_task_each() -> None:
    with fork.Pool(1, maxtasksperchild=1) as pool:  # forks; reaps: Pool.terminate
        # reaps somewhere: Pool worker handler
        pool.map(work, range(4), chunksize=1)


def lost_worker() -> None:
    with fork.Pool(1) as pool:  # forks; reaps: Pool.terminate
        pool.apply_async(os._exit, [1])
        pool.apply(os.getpid)  # by its successor


def joined() -> None:
    pool = fork.Pool(2)  # forks
    pool.map(work, range(4))
    pool.close()
    pool.join()  # reaps, perhaps: Pool.join


def executor() -> None:
    # reaps somewhere: executor manager
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
        list(pool.map(work, range(4)))  # forks


if __name__ == "__main__":
    one_task_each()
    lost_worker()
    joined()
    executor()
