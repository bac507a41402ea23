# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of the observer at any moment: nothing of it stays in the kernel, its trace opens.

Three moments; ten with ZOMBIEBPF_MOMENTS=10.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.kernel.bpf_objects import BpfObject, is_in_kernel, objects_of
from tests.kernel.running import PROGRAM, wait_until, zombiebpf

UPROBES = Path("/sys/kernel/tracing/uprobe_events")
# three before it is attached, then seven while it is; in an order that has both early on
MOMENTS = (1, 4, 8, 0, 2, 3, 5, 6, 7, 9)[: int(os.environ.get("ZOMBIEBPF_MOMENTS", "3"))]
# A shell that forks all the time.
LOOP = ("sh", "-c", "while :; do /bin/true; done")


def killed_at(moment_s: float, ready: bool, pid: int, trace: Path) -> set[BpfObject]:
    """The BPF objects the observer had. It is killed so long after it is ready, or starts."""
    with subprocess.Popen(
        [PROGRAM, "attach", str(pid), "-o", str(trace)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as observer:
        assert observer.stderr is not None
        if ready:
            assert observer.stderr.readline().startswith("zombiebpf: attached: ")
        time.sleep(moment_s)  # the random moment itself
        observer.send_signal(signal.SIGSTOP)
        objects = objects_of(Path(f"/proc/{observer.pid}/fdinfo"))
        assert all(map(is_in_kernel, objects))
        observer.kill()
        observer.wait()
    if UPROBES.exists():
        assert f"zombiebpf_{observer.pid:x}_" not in UPROBES.read_text()
    return objects


@pytest.mark.parametrize("seed", MOMENTS)
def test_killed(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    ready = seed >= 3
    trace = tmp_path / "trace.db"
    with subprocess.Popen(LOOP) as loop:
        try:
            objects = killed_at(chance.uniform(0, 2 if ready else 4), ready, loop.pid, trace)
        finally:
            loop.kill()
    # the kernel frees what nobody holds after RCU grace periods, which a storm of forks draws out
    wait_until(lambda: not any(map(is_in_kernel, objects)), f"{objects} are gone")
    if not ready and not trace.exists():
        return
    if ready:
        assert {each.kind for each in objects} == {"prog", "map", "link"}
        assert len(objects) > 10
    report = zombiebpf("report", str(trace))
    if ready:
        assert report.returncode == 0, report.stderr
        assert b"CUT: " in report.stdout
    else:
        assert report.returncode in (0, 2)
        assert b"Traceback" not in report.stderr
