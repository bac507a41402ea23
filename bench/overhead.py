# SPDX-License-Identifier: Apache-2.0
"""Compare the tools: what each costs the programs beside it, and itself.

One session, unobserved / a tool / unobserved / the next tool and so on, all tools in each
round, each round in another order. A time under a tool is compared with the mean of the
unobserved times right before and after it. Own CPU is that of the tool's processes, from the
moment the workload is ready until the tool has read what there was to read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Optional

from bench import processes
from bench.processes import ProcessFailed
from bench.tools import MACHINE, TOOLS, Observation, Tool, observing, version_of
from bench.workloads import Programs, Stage, Timing, unobserved

FOLLOWED = ("fork_wait", "exec_wait", "thread_join", "python_join", "python_run")
CALLS = ("getppid", "open_close", "pipe_round_trip")
PROCESSES = ("fork_wait", "exec_wait", "thread_join")  # of a bystander, where a tool has any
# A slice of processes has 25 ms: an observer that looks every 20 ms is in each. A slice of
# calls has 2.5 ms: some are disturbed by nothing.
LONG = 10
DRAIN_S, QUIET_S, QUIET_SHARE = 10.0, 0.1, 0.1  # two times QUIET_S with less CPU than the share
ZOMBIE_MS, TOLERANCE = 250, 0.1


COLUMNS: dict[str, Callable[[Timing], float]] = {
    "wall": lambda timing: timing.median_ns,
    "cpu": lambda timing: timing.cpu_mean_ns,
    "fastest": lambda timing: timing.fastest_ns,
}


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    slices: int  # of each workload in a phase
    idle_s: float
    tools: Sequence[Tool]


FULL = Size(5, 16, 30.0, TOOLS)
QUICK = Size(1, 6, 4.0, [tool for tool in TOOLS if tool.cheap])


class Phase(NamedTuple):
    """What was measured while one tool observed, or none."""

    timings: dict[str, Timing]  # also "NAME beside" and "NAME beside python"
    own_us: dict[str, float]  # own CPU, us an operation
    ready_s: float
    pss_bytes: int


def measure(programs: Programs, size: Size, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return what the page says of each tool; those that do not run have an `error`."""
    found: dict[str, dict[str, Any]] = {
        tool.key: {"name": tool.name, "sees": tool.sees, "version": version_of(tool)}
        for tool in size.tools
    }
    for tool in size.tools:
        progress(f"{tool.name}: what it reports")
        try:
            found[tool.key]["reports"] = _reports_of(tool, programs)
        except ProcessFailed as failure:
            found[tool.key]["error"] = str(failure)
            progress(str(failure))
    _rounds(found, programs, size, progress)
    running = [tool for tool in size.tools if "error" not in found[tool.key]]
    progress(f"all tools beside a quiet program, {size.idle_s:.0f} s")
    for key, per_minute in _idle(running, programs, size.idle_s).items():
        found[key]["idle_s_per_min"] = per_minute
    return {"rounds": size.rounds, "tools": found}


def _rounds(
    found: dict[str, dict[str, Any]],
    programs: Programs,
    size: Size,
    progress: Callable[[str], None],
) -> None:
    before = _unobserved_phase(programs, size)
    for number in range(size.rounds):
        tools = [tool for tool in size.tools if "error" not in found[tool.key]]
        turn = number % max(1, len(tools))
        for tool in [*tools[turn:], *tools[:turn]]:
            progress(f"{tool.name}, round {number + 1} of {size.rounds}")
            try:
                phase = _observed_phase(tool, programs, size)
            except ProcessFailed as failure:
                found[tool.key]["error"] = str(failure)
                progress(str(failure))
                continue
            after = _unobserved_phase(programs, size)
            _add(found[tool.key], before, phase, after)
            before = after


def _add(entry: dict[str, Any], before: Phase, phase: Phase, after: Phase) -> None:
    entry.setdefault("ready_s", []).append(phase.ready_s)
    entry.setdefault("pss_bytes", []).append(phase.pss_bytes)
    for name, own in phase.own_us.items():
        entry.setdefault("own_us", {}).setdefault(name, []).append(own)
    for name, timing in phase.timings.items():
        same = name.partition(" ")[0]
        around = (before.timings[same], after.timings[same])
        kept = entry.setdefault("slowdown", {}).setdefault(name, {})
        for column, of in COLUMNS.items():
            values = kept.setdefault(column, {"observed": [], "before": [], "after": []})
            for key, one in zip(values, (timing, *around)):
                values[key].append(of(one))


def _unobserved_phase(programs: Programs, size: Size) -> Phase:
    timings = {}
    with unobserved(programs) as stage:
        for name in (*FOLLOWED, *CALLS):
            timings[name] = _timed(stage, programs, name, size)
    return Phase(timings, {}, 0.0, 0)


def _timed(
    stage: Stage, programs: Programs, name: str, size: Size, watch: Optional[OwnCpu] = None
) -> Timing:
    operations, slices = programs.operations(name), size.slices
    if name in CALLS:
        slices *= LONG // 2
    else:
        operations *= LONG
    command = programs.command(name, operations, slices)
    if watch is None:
        return stage.run(command)
    return stage.run(command, watch.begin, watch.end)


class OwnCpu:
    """The CPU time of a tool's own processes between begin() and end()."""

    def __init__(self, observation: Observation) -> None:
        """Watch a tool."""
        self._observation = observation
        self._began_ns = self._forks = 0
        self.used_ns = 0
        self.forks = 0  # of all processes and threads of the machine meanwhile

    def begin(self) -> None:
        """Let the tool finish what it has to read, then start counting."""
        self._began_ns = self._drained()
        self._forks = processes.forks_of_machine()

    def end(self) -> None:
        """Let the tool finish what it has to read; `used_ns` is what it took."""
        self.used_ns = self._drained() - self._began_ns
        self.forks = processes.forks_of_machine() - self._forks

    def _drained(self) -> int:
        quiet, deadline = 0, time.monotonic() + DRAIN_S
        before = processes.cpu_ns(self._observation.own())
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(QUIET_S)
            now = processes.cpu_ns(self._observation.own())
            quiet = quiet + 1 if now - before < QUIET_S * QUIET_SHARE * 1e9 else 0
            before = now
        return before


def _observed_phase(tool: Tool, programs: Programs, size: Size) -> Phase:
    timings, own_us = {}, {}
    directory = programs.directory.parent
    with observing(tool, programs, directory) as observation:
        watch = OwnCpu(observation)
        for name in FOLLOWED:
            timings[name] = _timed(observation.stage, programs, name, size, watch)
            count = timings[name].total
            if tool.sees == MACHINE:  # other programs may fork, too
                count = max(count, watch.forks)
            own_us[name] = watch.used_ns / count / 1000
        with unobserved(programs) as bystander:
            for name in CALLS:
                timings[f"{name} beside"] = _timed(bystander, programs, name, size)
            if tool.sees != MACHINE:
                for name in PROCESSES:
                    timings[f"{name} beside"] = _timed(bystander, programs, name, size)
                observation.stage.begin(programs.command("python_parent"))
                for name in CALLS:
                    timings[f"{name} beside python"] = _timed(bystander, programs, name, size)
                observation.stage.go()
                observation.stage.line()
        pss_bytes = processes.pss_bytes(observation.own())
    return Phase(timings, own_us, observation.ready_s, pss_bytes)


def _reports_of(tool: Tool, programs: Programs) -> dict[str, str]:
    """Return for reaper, zombie interval and line: yes, no, or wrong.

    Observe a Python that leaves a zombie for a known time. The interpreter starts twice: the
    first start makes it known.
    """
    directory = programs.directory.parent
    with observing(tool, programs, directory) as observation:
        for _ in range(2):
            truth = json.loads(observation.stage.say(programs.command("zombie", ZOMBIE_MS)))
        output = observation.output
    reported = tool.reported(output, truth["child"])
    interval = reported.zombie_ns
    near = (
        interval is not None and abs(interval - truth["zombie_ns"]) < TOLERANCE * truth["zombie_ns"]
    )
    return {
        "reaper": _answer(reported.reaper, reported.reaper == truth["reaper"]),
        "zombie_interval": _answer(interval, near),
        "line": _answer(reported.line, reported.line == truth["line"]),
    }


def _answer(reported: Optional[float], right: bool) -> str:
    return "no" if reported is None else "yes" if right else "wrong"


def _idle(tools: Sequence[Tool], programs: Programs, seconds: float) -> dict[str, float]:
    """Return each tool's own CPU seconds a minute, all at once beside programs that sleep."""
    observations: dict[str, Observation] = {}
    used: dict[str, float] = {}
    with ExitStack() as stack:
        for tool in tools:
            directory = programs.directory.parent / tool.key
            directory.mkdir(exist_ok=True)
            observations[tool.key] = stack.enter_context(observing(tool, programs, directory))
        for observation in observations.values():
            OwnCpu(observation).begin()
        began = {key: processes.cpu_ns(each.own()) for key, each in observations.items()}
        began_ns = time.monotonic_ns()
        time.sleep(seconds)
        minutes = (time.monotonic_ns() - began_ns) / 60e9
        for key, each in observations.items():
            used[key] = (processes.cpu_ns(each.own()) - began[key]) / 1e9 / minutes
    return used
