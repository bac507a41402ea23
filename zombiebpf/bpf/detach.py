# SPDX-License-Identifier: Apache-2.0
"""Detach programs without waiting for it: the kernel waits for RCU grace periods, some 40 ms."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress

_MAX_THREADS = 16


def close_beside(descriptors: Sequence[int]) -> None:
    """Close descriptors in threads, so that one grace period serves several.

    Python waits for the threads at its exit; the caller can join them.
    """
    for number in range(min(_MAX_THREADS, len(descriptors))):
        some = descriptors[number::_MAX_THREADS]
        try:
            threading.Thread(target=_close, args=(some,)).start()
        except RuntimeError:  # no thread is allowed (pids.max)
            _close(some)


def _close(descriptors: Sequence[int]) -> None:
    for each in descriptors:
        with suppress(OSError):
            os.close(each)
