# SPDX-License-Identifier: Apache-2.0
"""What the probes say of a wait call, compared with the call's own arguments."""

from __future__ import annotations

import os
import subprocess
import sys

from zombiebpf.model.events import Wait
from zombiebpf.observe.selfcheck import start_observer

# A child of its own group, waited for in each way; what `waitid` shows of it stays as it is.
SOURCE = """
import os
child = os.fork()
if not child:
    os.setpgid(0, 0)
    os._exit(0)
look = os.WEXITED | os.WNOWAIT
os.waitid(os.P_ALL, 0, look)
os.waitid(os.P_PID, child, look)
os.waitid(os.P_PGID, child, look)
os.waitid(os.P_PIDFD, os.pidfd_open(child), look)
os.waitpid(-child, 0)
print(child)
"""


def test_a_wait_names_its_child_only_if_the_call_does() -> None:
    with start_observer(waits=True) as observer:
        with observer.following_forks():
            program = subprocess.Popen([sys.executable, "-c", SOURCE], stdout=subprocess.PIPE)
        out, _ = program.communicate()
        waits = []
        while batch := observer.read():
            waits += [each for each in batch.events() if isinstance(each, Wait)]
    child = int(out)
    assert program.returncode == os.EX_OK
    own = [each.target for each in waits if each.pid == program.pid]
    assert own == [-1, child, 0, 0, -child]
