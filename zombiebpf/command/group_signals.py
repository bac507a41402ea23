# SPDX-License-Identifier: Apache-2.0
"""Find out whether a signal was sent to the whole process group or to zombiebpf alone.

A signal for the group has reached the observed command too; one for zombiebpf alone has
not. siginfo(2) names the sender of a signal, never its target. So an idle child in the
group blocks every signal: one that was sent to the group is pending there as well.
"""

from __future__ import annotations

import os
import re
import signal
import time
from typing import NoReturn

from zombiebpf.command.inherited import open_descriptors

_DELAY_S = 0.01  # kill(-1) and systemd signal one process after another
_PENDING = re.compile(r"^ShdPnd:\s*([0-9a-f]+)$", re.MULTILINE)


class GroupSignalDetector:
    """An idle child in the process group that keeps the signals sent to the group pending.

    Create it with the signals of interest blocked. It ends at stop() or with its parent.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        reading, self._alive = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _sleep_until_end_of(reading)
        os.close(reading)

    def was_sent_to_group(self, number: int) -> bool:
        """Return whether signal `number`, which this process just received, went to the group."""
        if not self._has_pending(number):
            time.sleep(_DELAY_S)
            if not self._has_pending(number):
                return False
        self.stop()  # a new child: this signal stays pending in the old one
        self._start()
        return True

    def _has_pending(self, number: int) -> bool:
        if not self._pid:
            return False
        with open(f"/proc/{self._pid}/status") as file:
            found = _PENDING.search(file.read())
        return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)

    def child_was_reaped(self, pid: int) -> None:
        """Take note that `pid` was reaped: if it is this child, another process killed it."""
        if pid == self._pid:
            self._pid = 0

    def stop(self) -> None:
        """Kill the child and reap it."""
        os.close(self._alive)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _sleep_until_end_of(pipe: int) -> NoReturn:
    """Close all other descriptors, whose end somebody may wait for, and exit when `pipe` ends."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in open_descriptors():
            if number != pipe:
                os.close(number)
        os.read(pipe, 1)
    finally:
        os._exit(0)
