# SPDX-License-Identifier: Apache-2.0
"""python_join.py OPERATIONS SLICES: multiprocessing's start() and join()."""

import multiprocessing
import sys

from timed import time_slices

Process = multiprocessing.get_context("fork").Process


def nothing() -> None:
    pass


def start_and_join() -> None:
    process = Process(target=nothing)
    process.start()
    process.join()


time_slices(start_and_join, *map(int, sys.argv[1:]))
