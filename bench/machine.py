# SPDX-License-Identifier: Apache-2.0
"""Describe the machine that was measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.processes import ProcessFailed
from bench.tools import ZOMBIEBPF


def describe(directory: Path) -> dict[str, Any]:
    """Return what the page says of the machine. ProcessFailed if zombiebpf does not run here."""
    report = directory / "machine.jsonl"
    command = [ZOMBIEBPF, "run", "--format", "jsonl", "--report", str(report), "--", "/bin/true"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          check=False)  # fmt: skip
    if done.returncode != 0:
        raise ProcessFailed(done.stderr.strip().splitlines()[-1])
    meta = json.loads(report.read_text(encoding="utf-8").splitlines()[-1])["meta"]
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kernel = re.match(r"\d+(\.\d+)*", platform.release())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": os.cpu_count() or 1,
        "threads_per_core": _threads_per_core(),
        "virtual": " hypervisor" in cpuinfo,
        "memory_bytes": memory,
        "kernel": kernel[0] if kernel else "",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "bcc": _bcc_version(),
        "zombiebpf": str(meta["version"]),
        "hooks": dict(meta["hooks"]),
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _threads_per_core() -> int:
    file = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    count = 0
    with suppress(OSError, ValueError):
        for part in file.read_text(encoding="ascii").strip().split(","):
            first, _, last = part.partition("-")
            count += int(last or first) - int(first) + 1
    return max(1, count)


def _bcc_version() -> str:
    command = ["/usr/bin/python3", "-I", "-c", "import bcc; print(bcc.__version__)"]
    with suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=True)  # fmt: skip
        return done.stdout.strip()
    return "unknown"
