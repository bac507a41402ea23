# SPDX-License-Identifier: Apache-2.0
"""Measure reports of large traces: CPU time, peak memory, size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from bench.processes import Process, ProcessFailed, cpu_ns, ended, error_line, peak_rss_bytes
from bench.tools import ZOMBIEBPF
from bench.workloads import Programs

FORMATS = ("text", "html", "csv", "json", "jsonl", "perfetto")
BUDGETED = ("text", "html")  # of a million: these are waited for longer
COUNTS, QUICK_COUNTS = (10_000, 100_000, 1_000_000), (10_000,)
LIMIT_S, BUDGETED_LIMIT_S = 60.0, 300.0
MEMORY_LIMIT = 8 << 30  # resident bytes


def measure(
    programs: Programs, counts: Sequence[int], progress: Callable[[str], None]
) -> dict[str, Any]:
    """Return for each size the trace's own figures, and each format's or why it has none."""
    trace = programs.directory.parent / "synthetic.db"
    found: dict[str, Any] = {}
    last: Optional[dict[str, Any]] = None
    for count in counts:
        progress(f"a trace of {count:,} processes")
        trace.unlink(missing_ok=True)
        entry: dict[str, Any] = {"trace": _write_trace(trace, count), "formats": {}}
        found[str(count)] = entry
        for name in FORMATS:
            progress(f"a report of {count:,} processes as {name}")
            limit_s = BUDGETED_LIMIT_S if name in BUDGETED else LIMIT_S
            before = last["formats"][name] if last else {}
            if name not in BUDGETED and before.get("cpu_s", 0) * 10 > limit_s:
                entry["formats"][name] = {"error": f"not tried: over {limit_s:.0f} s expected"}
                continue
            try:
                entry["formats"][name] = _report(trace, name, limit_s)
            except ProcessFailed as failure:
                entry["formats"][name] = {"error": str(failure)}
        last = entry
    trace.unlink(missing_ok=True)
    return found


def _write_trace(trace: Path, count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.synthetic", str(trace), str(count)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ProcessFailed(f"the trace was not written: {error_line(done.stderr)}")
    written: dict[str, Any] = json.loads(done.stdout)
    return written


def _report(trace: Path, name: str, limit_s: float) -> dict[str, float]:
    """Write a report to a file. ProcessFailed if that fails, or takes more than the limits."""
    output = trace.with_suffix(f".{name}")
    command = [ZOMBIEBPF, "report", "--format", name, "--report", str(output), str(trace)]
    process = Process(command, stderr=trace.with_suffix(".errors"))
    deadline = time.monotonic() + limit_s
    peak = 0
    with ended(process):
        while not process.has_exited():
            peak = max(peak, peak_rss_bytes(process.pid))
            if time.monotonic() > deadline:
                raise ProcessFailed(f"not ready after {limit_s:.0f} s, at {peak >> 20} MiB")
            if peak > MEMORY_LIMIT:
                raise ProcessFailed(f"took more than {MEMORY_LIMIT >> 30} GiB")
            time.sleep(0.01)
        cpu_s = cpu_ns([process.pid]) / 1e9
        if process.finish(1) != 0:
            raise ProcessFailed(process.problem("failed"))
    size = output.stat().st_size
    os.unlink(output)
    return {"cpu_s": cpu_s, "peak_rss_bytes": peak, "bytes": size}
