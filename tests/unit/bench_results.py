# SPDX-License-Identifier: Apache-2.0
"""Results of a bench as it writes them, with round figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CALLS = ("getppid", "open_close", "pipe_round_trip")
PROCESSES = ("fork_wait", "exec_wait", "thread_join")
FOLLOWED = (*PROCESSES, "python_join", "python_run")


def times(observed: float, rounds: int = 3) -> dict[str, Any]:
    """Return a workload that took 100 unobserved."""
    one = {"observed": [observed] * rounds, "before": [100.0] * rounds, "after": [100.0] * rounds}
    return {"wall": one, "cpu": one, "fastest": one}


def tool(name: str, own_us: float, slow: float = 100.0, sees: str = "the machine") -> Any:
    """Return a tool that takes `own_us` for each operation."""
    workloads = [*FOLLOWED, *(f"{call} beside" for call in CALLS)]
    if sees != "the machine":
        workloads += [f"{each} beside" for each in PROCESSES]
        workloads += [f"{call} beside python" for call in CALLS]
    return {
        "name": name, "sees": sees, "version": "1.2",
        "reports": {"reaper": "yes", "zombie_interval": "wrong", "line": "no"},
        "ready_s": [0.1, 0.2, 0.3], "pss_bytes": [1 << 20] * 3, "idle_s_per_min": 0.1,
        "own_us": {each: [own_us] * 3 for each in FOLLOWED},
        "slowdown": {each: times(slow) for each in workloads},
    }  # fmt: skip


def document() -> dict[str, Any]:
    """Return results that meet every budget; a test changes what it is about."""
    report = {"cpu_s": 5.0, "peak_rss_bytes": 100 << 20, "bytes": 1000}
    sizes = ("10000", "1000000")
    programs = {"zb_fork": {"runs": 1.0, "ns": 1500.0}, "zb_exit": {"runs": 2.0, "ns": 500.0}}
    ran = {"fork_wait": programs, "python_join": programs}
    observed = {"forks": 1_000_000, "seen": 1_000_000, "own_us": 2.0, "growth_bytes": 0,
                "resident_bytes": [50 << 20, 50 << 20]}  # fmt: skip
    storm = {"seconds": 3, "forks": 1000, "seen": 1000, "own_us": 2.0}
    return {
        "machine": {
            "cpu": "A CPU", "cpus": 2, "threads_per_core": 2, "virtual": True,
            "memory_bytes": 8 << 30, "kernel": "6.1.0", "architecture": "x86_64",
            "python": "3.11.2", "bcc": "0.26.0", "zombiebpf": "0.2.0", "date": "2026-01-01",
            "hooks": {"fork": "raw tracepoint sched_process_fork",
                      "reap": "raw tracepoint kmem_cache_free in release_task"},
        },
        "quick": False, "errors": {}, "took_s": 1800,
        "parts": {
            "tools": {"rounds": 3, "tools": {
                "zombiebpf-run": tool("zombiebpf run", 2.0, sees="descendants"),
                "zombiebpf-attach": tool("zombiebpf attach", 2.0, sees="descendants"),
                "zombiebpf-attach-o": tool("zombiebpf attach -o", 6.0, sees="descendants"),
                "perf-record": tool("perf record", 0.4),
                "bpftrace-print": tool("bpftrace, print", 50.0),
            }},
            "start": {
                "commands": {
                    "zombiebpf --version": _walls([0.1]), "zombiebpf --help": _walls([0.1]),
                    "zombiebpf run true": _walls([0.3]), "bpftrace -c true": _walls([0.4]),
                    "perf trace true": {"wall_s": [], "cpu_s": [], "error": "no perf here"},
                },
                "ready_s": {"zombiebpf-run": [0.2], "zombiebpf-attach": [0.2],
                            "zombiebpf-attach-o": [0.2]},
                "compiling": {"wall_s": 2.0, "cpu_s": 1.0, "peak_rss_bytes": 1},
                "split": {"parts": {"self-check": [5.0], "tiny": [0.1]},
                          "imports": {"click": [9.0]}},
            },
            "storm": {"tools": {"zombiebpf-run": storm, "perf-record": {"error": "no"}},
                      "long": {**storm, "seconds": 30, "lost": 0}},
            "work": {"fork_wait": {"SQLite": [1.0, 3.0, 2.0]}, "python_join": {"SQLite": [9.0]}},
            "probes": {"zombiebpf-run": ran, "zombiebpf-attach-o": ran},
            "stacks": {"0": {"fork_ns": [1000.0], "all_ns": [9000.0]},
                       **{depth: {"fork_ns": [4000.0], "all_ns": [15000.0]}
                          for depth in ("5", "11", "31")},
                       "unobserved_ns": [100_000.0]},
            "alive": {"10000": {"ready_s": 1.0, "ready_cpu_s": 0.5, "idle_s_per_min": 0.1,
                                "pss_bytes": 50 << 20}},
            "memory": {"zombiebpf-run": dict(observed), "zombiebpf-attach-o": dict(observed)},
            "reports": {size: {
                "trace": {"cpu_ns": 5000.0, "bytes": 180.0, "resident_bytes": [30 << 20]},
                "formats": {name: dict(report) for name in
                            ("text", "html", "csv", "json", "jsonl", "perfetto")},
            } for size in sizes},
            "browser": [["10,000", "size", "1.4 MB"]],
        },
    }  # fmt: skip


def _walls(seconds: Sequence[float]) -> dict[str, Any]:
    return {"wall_s": list(seconds), "cpu_s": list(seconds)}
