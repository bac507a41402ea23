# SPDX-License-Identifier: Apache-2.0
"""python -m bench.split start|work FILE COMMAND: `zombiebpf run COMMAND`, taken apart.

`start` has the parts of a start, `work` those of what is done for each process. Functions of
zombiebpf are wrapped, and each one's CPU time counted without that of wrapped functions that
it calls. Modules are imported before, and not counted. FILE gets JSON: part -> CPU ms of all
threads.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

OUTSIDE = "start, supervise, end"


class Part(NamedTuple):
    """A function and what it does."""

    name: str
    module: str
    path: str  # Class.method, or a function
    of: bool = False  # named with the function's first argument


START = (
    Part("BTF", "zombiebpf.kernel.machine", "read_btf"),
    Part("kernel symbols and hook trials", "zombiebpf.kernel.machine", "ask_kernel"),
    Part("find the compiled probes", "zombiebpf.kernel.program", "_compiled"),
    Part("assemble the probes' source", "zombiebpf.kernel.program", "source"),
    Part("create the maps", "zombiebpf.bpf.loaded", "Probes.__init__"),
    Part("load", "zombiebpf.bpf.loaded", "Probes.load", of=True),
    Part("attach to tracepoints", "zombiebpf.bpf.loaded", "Probes.attach"),
    Part("attach to functions", "zombiebpf.kernel.program", "attach_functions"),
    Part("observer: the rest", "zombiebpf.kernel.observer", "Observer.attach"),
    Part("self-check", "zombiebpf.observe.selfcheck", "start_observer"),
    Part("attribution rules", "zombiebpf.observe.rule_files", "load_rules"),
    Part("find the installed Pythons", "zombiebpf.kernel.observer", "Observer.expect_interpreters"),
    Part("the command, its events", "zombiebpf.observe.command_run", "CommandRun.run"),
    Part("detach and unload", "zombiebpf.kernel.observer", "Observer.close"),
    Part("report", "zombiebpf.reports.output.destination", "Output.write"),
)
WORK = (
    Part("read the ring buffers", "zombiebpf.kernel.observer", "Observer.read"),
    Part(
        "records to rows, with stacks and calls", "zombiebpf.lifecycle.lifecycle", "Lifecycle.feed"
    ),
    Part("rows and joins to SQL", "zombiebpf.trace.writer", "TraceWriter.add"),
    Part("SQLite", "zombiebpf.trace.writer", "TraceWriter._transaction"),
    Part("wake up, sleep and the rest", "zombiebpf.observe.pipeline", "Pipeline.drain"),
    Part(OUTSIDE, "zombiebpf.observe.command_run", "CommandRun.run"),
    Part("text report", "zombiebpf.reports.output.destination", "Output.write"),
)


class Clock:
    """CPU time of nested functions, each without that of the others."""

    def __init__(self, now_ns: Callable[[], int] = time.process_time_ns) -> None:
        """Count with `now_ns`."""
        self._now_ns = now_ns
        self._stack: list[int] = []  # time of what each open function called
        self.spent_ns: dict[str, int] = {}

    def wrap(self, part: Part, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, counted under the part's name."""
        at = 1 if "." in part.path else 0  # after self

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            name = f"{part.name} {args[at]}" if part.of and len(args) > at else part.name
            self._stack.append(0)
            began = self._now_ns()
            try:
                return function(*args, **kwargs)
            finally:
                took, inner = self._now_ns() - began, self._stack.pop()
                self.spent_ns[name] = self.spent_ns.get(name, 0) + took - inner
                if self._stack:
                    self._stack[-1] += took

        return counted


def install(clock: Clock, parts: Sequence[Part]) -> None:
    """Wrap each part, also where it was imported by name."""
    for part in parts:
        owner: Any = importlib.import_module(part.module)
        *outer, name = part.path.split(".")
        for each in outer:
            owner = getattr(owner, each)
        found = owner.__dict__[name]
        if isinstance(found, classmethod):
            setattr(owner, name, classmethod(clock.wrap(part, found.__func__)))
            continue
        counted = clock.wrap(part, found)
        setattr(owner, name, counted)
        for module in list(sys.modules.values()):
            if not outer and getattr(module, name, None) is found:
                setattr(module, name, counted)


def main() -> None:
    """Run zombiebpf, write the parts."""
    gc.disable()  # as zombiebpf.__main__ does: the command enables it in its own way
    clock = Clock()
    kind, file, *command = sys.argv[1:]
    install(clock, START if kind == "start" else WORK)
    importlib.import_module("zombiebpf.cli.run")
    began = time.process_time_ns()
    sys.argv = ["zombiebpf", "run", "--report", os.devnull, "--", *command]
    try:
        importlib.import_module("zombiebpf.cli").main()
    except SystemExit as ended:
        if ended.code:
            raise
    total = time.process_time_ns() - began
    parts = {**clock.spent_ns, "not in these": total - sum(clock.spent_ns.values())}
    with open(file, "w", encoding="utf-8") as out:  # standard output was the command's
        json.dump({name: ns / 1e6 for name, ns in parts.items()}, out)


if __name__ == "__main__":
    main()
