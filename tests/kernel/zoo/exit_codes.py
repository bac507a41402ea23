# SPDX-License-Identifier: Apache-2.0
"""Exit codes: the ends of the range and one beyond it, of which eight bits remain."""

import functools

from harness import truth

for code in (0, 1, 255, 256 + 3):
    role = f"exit {code}"
    truth.reap(role, truth.spawn(role, functools.partial(int, code)))
truth.tell()
