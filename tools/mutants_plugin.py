# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin for mutation tests: forget what was cached before the mutant was chosen.

mutmut runs the tests of a mutant in a fork of the process that has run them all. A result
in an lru_cache would be that of the original function, and the mutant would survive.
"""

from __future__ import annotations

import functools
import gc


def pytest_sessionstart() -> None:
    """Clear every lru_cache of the process."""
    for each in gc.get_objects():
        if isinstance(each, functools._lru_cache_wrapper):
            each.cache_clear()
