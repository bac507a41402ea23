# SPDX-License-Identifier: Apache-2.0
"""A process of our process group that tells whether a signal was sent to all of it.

A signal for the group has reached the command by itself; one for us alone has
not. The kernel says who sent it, never to whom. So a child that does nothing
blocks every signal: what was sent to the group is pending there too.
"""

from __future__ import annotations

import os
import re
import signal
import time
from typing import NoReturn

from zombiebpf.inheritance import open_descriptors

_PATIENCE_S = 0.01  # kill(-1) and systemd signal one process after another
_PENDING = re.compile(r"^ShdPnd:\s*([0-9a-f]+)$", re.MULTILINE)


class Sentinel:
    """Started where every signal is blocked; stop() ends it, and so does our own end."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        reading, self._alive = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _sleep_until_end_of(reading)
        os.close(reading)

    def has_seen(self, number: int) -> bool:
        """Whether the signal that we have just received went to the whole group."""
        if not self._has_pending(number):
            time.sleep(_PATIENCE_S)
            if not self._has_pending(number):
                return False
        self.stop()  # the next one shall not find this signal pending
        self._start()
        return True

    def _has_pending(self, number: int) -> bool:
        if not self._pid:
            return False
        with open(f"/proc/{self._pid}/status") as file:
            found = _PENDING.search(file.read())
        return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)

    def note_reaped(self, pid: int) -> None:
        """Somebody's child was reaped: if it was this one, it has been killed by a stranger."""
        if pid == self._pid:
            self._pid = 0

    def stop(self) -> None:
        os.close(self._alive)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _sleep_until_end_of(pipe: int) -> NoReturn:
    """Hold nothing open that somebody could wait for the end of."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in open_descriptors():
            if number != pipe:
                os.close(number)
        os.read(pipe, 1)
    finally:
        os._exit(0)
