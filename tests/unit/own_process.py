# SPDX-License-Identifier: Apache-2.0
"""Tests that need a process of one thread: those that wait for signals to the whole process.

A worker of pytest-xdist has a second thread, which would get these signals.
"""

from __future__ import annotations

import functools
import os
import traceback
from typing import Any, Callable


def in_own_process(test: Callable[..., None]) -> Callable[..., None]:
    """Run the test in a forked child, which has one thread; fail with its traceback."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                test(*args, **kwargs)
            except BaseException:
                os.write(writing, traceback.format_exc().encode()[-60_000:])
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            failure = pipe.read()
        _, status = os.waitpid(pid, 0)
        assert not failure, failure
        assert status == 0

    return run
