# SPDX-License-Identifier: Apache-2.0
"""CLONE_PARENT: the child's parent is its forker's parent, from birth: no reparenting."""

import signal

from harness import raw, truth

handed = truth.Word()


def forker() -> None:
    make = lambda: raw.clone(raw.CLONE_PARENT | signal.SIGCHLD)  # noqa: E731
    handed.send(truth.spawn("sibling", lambda: 5, make=make))


pid = truth.spawn("forker", forker)
sibling = handed.receive()
truth.reap("forker", pid)
truth.reap("sibling", sibling, by="parent")
truth.tell()
