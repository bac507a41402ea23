# SPDX-License-Identifier: Apache-2.0
"""A process that names itself, twice; and one whose other thread does, which is not its name."""

import threading

from harness import raw, truth


def twice() -> None:
    raw.rename(b"caterpillar")
    raw.rename(b"butterfly (1) x")


def thread_only() -> None:
    raw.rename(b"itself")
    thread = threading.Thread(target=raw.rename, args=(b"thread's",))
    thread.start()
    thread.join()


truth.reap("twice", truth.spawn("twice", twice))
truth.say("twice", comm="butterfly (1) x")
truth.reap("thread only", truth.spawn("thread only", thread_only))
truth.say("thread only", comm="itself")
truth.tell()
