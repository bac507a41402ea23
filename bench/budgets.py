# SPDX-License-Identifier: Apache-2.0
"""The budgets, and what a bench's results say of each. Pure: results in, rows out."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, Optional

from bench.statistics import fastest_slowdown, noise, slowdowns

MIB = 1 << 20

RUN_TO_BPFTRACE = 0.08  # own CPU a process
TRACE_TO_BPFTRACE = 0.2
JOIN_US = {"zombiebpf-run": 60.0, "zombiebpf-attach-o": 100.0}  # own CPU, Process.start() + join()
JOIN_TO_PERF = 1.03  # the program's slowdown over the one under perf record
IDLE_S_PER_MIN = 0.2
TRUE_TO_BPFTRACE = 1.0  # wall time of `run true`
ATTACH_TO_RUN = 1.2  # time to ready
VERSION_S = 0.12
REPORT_S, REPORT_MIB = 10.0, 200.0  # of a million processes
FLAT_MIB = 20.0  # growth over a million processes that counts as none

# "Not worse than 0.1": its own budgets, and what it was measured at where that was more.
FORK_LOOP = 1.03
CALLS_EXACT = 1.01  # where release_task can be hooked
CALLS = {"getppid": 1.06, "open_close": 1.12, "pipe_round_trip": 1.06}
CALLS_BESIDE_PYTHON = {"getppid": 1.06, "open_close": 1.15, "pipe_round_trip": 1.06}
STACK_FRAMES, STACK_TO_FORK = 11, 0.08  # BPF time of a stack over the unobserved fork loop's

NAMES = {
    "fork_wait": "fork loop",
    "exec_wait": "exec loop",
    "thread_join": "thread loop",
    "python_join": "start() + join()",
    "python_run": "subprocess.run()",
    "getppid": "getppid()",
    "open_close": "open() + close()",
    "pipe_round_trip": "pipe round trip",
}


class Verdict(enum.Enum):
    """Whether a budget is met."""

    MET = "met"
    NOT_MET = "**not met**"
    UNCLEAR = "unclear: within noise"  # missed by less than unobserved phases differ
    NOT_MEASURED = "not measured"


class Row(NamedTuple):
    """One budget."""

    what: str
    target: str
    measured: str
    verdict: Verdict


def at_most(value: float, budget: float, spread: float = 0.0) -> Verdict:
    """Judge a value; `spread` is by how much two measurements of one thing differ."""
    if value <= budget:
        return Verdict.MET
    return Verdict.UNCLEAR if value - spread <= budget else Verdict.NOT_MET


def rows(document: Mapping[str, Any]) -> list[Row]:
    """Judge every budget; what the document has no figures for is not measured."""
    parts = document["parts"]
    tools = parts.get("tools", {}).get("tools", {})
    return [
        *_own_cpu(tools),
        *_idle(tools),
        *_start(parts.get("start")),
        *_reports(parts.get("reports")),
        *_memory(parts.get("memory")),
        *_storm(parts.get("storm")),
        *_slowdowns(tools, document["machine"]["hooks"]),
        *_stack(parts.get("stacks")),
        Row(
            "agent at 3,000 forks/s", "<= 1 % of a core, <= 40 MiB PSS, 0 lost",
            "there is no agent yet", Verdict.NOT_MEASURED,
        ),
    ]  # fmt: skip


def _row(
    what: str,
    target: str,
    value: Optional[float],
    budget: float,
    text: str = "{:.2f}",
    beside: str = "",
    spread: float = 0.0,
) -> Row:
    if value is None:
        return Row(what, target, "-", Verdict.NOT_MEASURED)
    return Row(what, target, text.format(value) + beside, at_most(value, budget, spread))


def own_us(tools: Mapping[str, Any], key: str, workload: str) -> Optional[float]:
    """Return a tool's median own CPU in us an operation; None if it has none."""
    values: Sequence[float] = tools.get(key, {}).get("own_us", {}).get(workload, ())
    return median(values) if values else None


def _ratio(value: Optional[float], other: Optional[float]) -> Optional[float]:
    return value / other if value is not None and other else None


def _own_cpu(tools: Mapping[str, Any]) -> Iterator[Row]:
    for key, name, budget in (
        ("zombiebpf-run", "run", RUN_TO_BPFTRACE),
        ("zombiebpf-attach-o", "attach -o", TRACE_TO_BPFTRACE),
    ):
        own = own_us(tools, key, "fork_wait")
        other = own_us(tools, "bpftrace-print", "fork_wait")
        beside = f"x: {own:.1f} us, bpftrace {other:.1f} us" if own and other else ""
        what = f"own CPU a process, `{name}`, beside `bpftrace` printing fork, exit and wait"
        ratio = _ratio(own, other)
        yield _row(what, f"<= {budget:g}x", ratio, budget, "{:.2f}", beside)
    for key, name in (("zombiebpf-run", "run"), ("zombiebpf-attach-o", "attach -o")):
        own = own_us(tools, key, "python_join")
        ratio = _ratio(own, own_us(tools, "bpftrace-print", "python_join"))
        beside = f", {ratio:.2f}x bpftrace" if ratio is not None else ""
        budget = JOIN_US[key]
        what = f"own CPU a Python `start()` + `join()`, `{name}`"
        yield _row(what, f"<= {budget:g} us", own, budget, "{:.0f} us", beside)


def _idle(tools: Mapping[str, Any]) -> Iterator[Row]:
    perf = tools.get("perf-record", {}).get("idle_s_per_min")
    beside = f", `perf record` {perf:.2f}" if perf is not None else ""
    for key, name in (("zombiebpf-attach", "attach"), ("zombiebpf-attach-o", "attach -o")):
        value = tools.get(key, {}).get("idle_s_per_min")
        what, target = f"own CPU of an idle `{name}`", f"<= {IDLE_S_PER_MIN:g} s/min"
        yield _row(what, target, value, IDLE_S_PER_MIN, "{:.2f} s/min", beside)


def _wall(start: Optional[Mapping[str, Any]], name: str) -> Optional[float]:
    values = start["commands"].get(name, {}).get("wall_s") if start else None
    return median(values) if values else None


def _start(start: Optional[Mapping[str, Any]]) -> Iterator[Row]:
    own, other = _wall(start, "zombiebpf run true"), _wall(start, "bpftrace -c true")
    beside = f"x: {own:.2f} s, bpftrace {other:.2f} s" if own and other else ""
    yield _row("`zombiebpf run true`, wall, beside `bpftrace -c true`", f"<= {TRUE_TO_BPFTRACE:g}x",
               _ratio(own, other), TRUE_TO_BPFTRACE, "{:.2f}", beside)  # fmt: skip
    for key, name in (("zombiebpf-attach", "attach"), ("zombiebpf-attach-o", "attach -o")):
        ready = start["ready_s"] if start else {}
        own = median(ready[key]) if ready.get(key) else None
        other = median(ready["zombiebpf-run"]) if ready.get("zombiebpf-run") else None
        beside = f"x: {own:.2f} s, run {other:.2f} s" if own and other else ""
        yield _row(f"`{name}` to ready, beside `run`", f"<= {ATTACH_TO_RUN:g}x",
                   _ratio(own, other), ATTACH_TO_RUN, "{:.2f}", beside)  # fmt: skip
    for option in ("--version", "--help"):
        yield _row(f"`zombiebpf {option}`", f"<= {VERSION_S:g} s",
                   _wall(start, f"zombiebpf {option}"), VERSION_S, "{:.2f} s")  # fmt: skip


def _reports(reports: Optional[Mapping[str, Any]]) -> Iterator[Row]:
    target = f"<= {REPORT_S:g} s CPU, <= {REPORT_MIB:g} MiB"
    for name in ("text", "html"):
        what = f"{name} report of 1,000,000 processes"
        found = (reports or {}).get("1000000", {}).get("formats", {}).get(name)
        if found is None:
            yield Row(what, target, "-", Verdict.NOT_MEASURED)
        elif "error" in found:
            yield Row(what, target, found["error"], Verdict.NOT_MET)
        else:
            peak = found["peak_rss_bytes"] / MIB
            met = found["cpu_s"] <= REPORT_S and peak <= REPORT_MIB
            measured = f"{found['cpu_s']:.1f} s, {peak:.0f} MiB"
            yield Row(what, target, measured, Verdict.MET if met else Verdict.NOT_MET)


def _memory(memory: Optional[Mapping[str, Any]]) -> Iterator[Row]:
    for key, name in (("zombiebpf-run", "run"), ("zombiebpf-attach-o", "attach -o")):
        found = (memory or {}).get(key, {})
        forks = found.get("forks", 0)
        enough = forks >= 500_000  # a quick run's few thousand say nothing of a million
        growth = found["growth_bytes"] / MIB if enough else None
        what = f"memory of `{name}` over 1,000,000 processes"
        yield _row(what, f"flat: <= {FLAT_MIB:g} MiB", growth, FLAT_MIB, "{:.1f} MiB")
        exact = found.get("seen") == forks
        yield Row(
            f"processes reported of {forks:,}, `{name}`" if found else f"processes, `{name}`",
            "all",
            f"{found['seen']:,}" if found else "-",
            (Verdict.MET if exact else Verdict.NOT_MET) if found else Verdict.NOT_MEASURED,
        )


def _storm(storm: Optional[Mapping[str, Any]]) -> Iterator[Row]:
    if not storm:
        yield Row("fork storm on all CPUs, `run`", "0 lost, all seen", "-", Verdict.NOT_MEASURED)
        return
    found = storm["long"]
    exact = found["lost"] == 0 and found["seen"] == found["forks"]
    yield Row(
        f"fork storm on all CPUs for {found['seconds']} s, `run`",
        "0 lost, all seen",
        f"{found['lost']} lost, {found['seen']:,} of {found['forks']:,} seen",
        Verdict.MET if exact else Verdict.NOT_MET,
    )


def slowdown(tools: Mapping[str, Any], key: str, workload: str, of: str) -> Optional[list[float]]:
    """Return a tool's slowdown of a workload in each round, by `of`: wall, cpu or fastest."""
    times = tools.get(key, {}).get("slowdown", {}).get(workload)
    if not times:
        return None
    return slowdowns(times[of]["observed"], times[of]["before"], times[of]["after"])


def fastest(tools: Mapping[str, Any], key: str, workload: str) -> Optional[float]:
    """Return the fastest slice of all rounds under a tool over the fastest unobserved one."""
    times = tools.get(key, {}).get("slowdown", {}).get(workload)
    if not times:
        return None
    times = times["fastest"]
    return fastest_slowdown(times["observed"], [*times["before"], *times["after"]])


def unobserved_noise(tools: Mapping[str, Any], key: str, workload: str, of: str) -> float:
    """Return by how much the unobserved times around a tool's phases differ."""
    times = tools[key]["slowdown"][workload][of]
    return noise(times["before"], times["after"])


def _slowdowns(tools: Mapping[str, Any], hooks: Mapping[str, str]) -> Iterator[Row]:
    own = slowdown(tools, "zombiebpf-run", "python_join", "wall")
    perf = slowdown(tools, "perf-record", "python_join", "wall")
    value = median(own) / median(perf) if own and perf else None
    beside = f"x: {median(own):.3f} and {median(perf):.3f}" if own and perf else ""
    spread = unobserved_noise(tools, "perf-record", "python_join", "wall") if value else 0.0
    yield _row("time of `start()` + `join()` under `run`, over that under `perf record`",
               f"<= {JOIN_TO_PERF:g}x", value, JOIN_TO_PERF, "{:.3f}", beside, spread)  # fmt: skip
    own = slowdown(tools, "zombiebpf-run", "fork_wait", "wall")
    spread = unobserved_noise(tools, "zombiebpf-run", "fork_wait", "wall") if own else 0.0
    yield _row("fork loop under `run`, wall", f"<= {FORK_LOOP:g}x", median(own) if own else None,
               FORK_LOOP, "{:.3f}x", f" +-{spread:.3f}", spread)  # fmt: skip
    exact = "kmem_cache_free" not in hooks.get("reap", "")
    for suffix, beside, limits in (
        ("beside", "beside `run`", CALLS),
        ("beside python", "beside `run` of a Python with a child", CALLS_BESIDE_PYTHON),
    ):
        for call, limit in limits.items():
            budget = CALLS_EXACT if exact else limit
            name = f"{call} {suffix}"
            value = fastest(tools, "zombiebpf-run", name)
            spread = unobserved_noise(tools, "zombiebpf-run", name, "fastest") if value else 0.0
            yield _row(f"{NAMES[call]} {beside}, fastest slices", f"<= {budget:g}x", value, budget,
                       "{:.3f}x", f" +-{spread:.3f}", spread)  # fmt: skip


def stack_ns(stacks: Mapping[str, Any], frames: int) -> float:
    """Return the BPF time of one stack: what a Python fork takes more than a C one."""
    without = min(stacks["0"]["fork_ns"])
    return float(min(stacks[str(frames)]["fork_ns"]) - without)


def _stack(stacks: Optional[Mapping[str, Any]]) -> Iterator[Row]:
    what = f"Python stack of {STACK_FRAMES} frames in BPF, over an unobserved fork loop's turn"
    value, beside = None, ""
    if stacks:
        ns = stack_ns(stacks, STACK_FRAMES)
        value = ns / min(stacks["unobserved_ns"])
        beside = f"x: {ns / 1000:.1f} us"
    yield _row(what, f"<= {STACK_TO_FORK:g}x", value, STACK_TO_FORK, "{:.3f}", beside)
