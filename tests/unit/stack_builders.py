# SPDX-License-Identifier: Apache-2.0
"""Build stacks from short strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from zombiebpf.model.stack import Frame, Stack

LIBRARY = "/usr/lib/python3.11/"
PACKAGES = "/srv/venv/lib/python3.11/site-packages/"
APP_FILE = "/srv/app.py"


def frame(text: str) -> Frame:
    """Build a frame from `multiprocessing.process:BaseProcess.join` (standard library),
    `@gunicorn.arbiter:Arbiter.run` (package), `main:42` (app.py) or `/srv/other.py:main:42`."""
    if text.startswith("/"):
        file, function, line = text.split(":")
        return Frame(function, file, int(line))
    module, separator, function = text.partition(":")
    if separator and not function.isdigit():
        root = PACKAGES if module.startswith("@") else LIBRARY
        return Frame(function, root + module.lstrip("@").replace(".", "/") + ".py", 7)
    return Frame(module, APP_FILE, int(function or 42))


def stack(*frames: str, problem: Optional[str] = None) -> Stack:
    """Build a stack of frames, innermost first."""
    return Stack(tuple(frame(each) for each in frames), problem)


POLL = "multiprocessing.popen_fork:Popen.poll"
MP_WAIT = "multiprocessing.popen_fork:Popen.wait"
JOIN = "multiprocessing.process:BaseProcess.join"
SELECT = "selectors:_PollLikeSelector.select"
CONNECTION_WAIT = "multiprocessing.connection:wait"
REAPING_JOIN = (POLL, MP_WAIT, JOIN)
POLLING_JOIN = (SELECT, CONNECTION_WAIT, MP_WAIT, JOIN)
STARTING = (
    "multiprocessing.popen_fork:Popen._launch",
    "multiprocessing.popen_fork:Popen.__init__",
    "multiprocessing.context:ForkContext._Popen",
    "multiprocessing.process:BaseProcess.start",
)


def unqualified(whole: Stack) -> Stack:
    """Return the stack as an interpreter before 3.11 has it if the source is not readable."""
    return Stack(
        tuple(each._replace(function=each.function.rsplit(".", 1)[-1]) for each in whole.frames),
        whole.problem,
    )


def names(whole: Sequence[Frame]) -> list[str]:
    return [each.function for each in whole]
