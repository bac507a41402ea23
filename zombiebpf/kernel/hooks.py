# SPDX-License-Identifier: Apache-2.0
"""Which hook gives each fact on this kernel, chosen by asking the kernel, never by version.

The hooks' meaning and cost are told in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.kernel.btf import Btf
from zombiebpf.kernel.functions import FENTRY, KPROBE, Probe
from zombiebpf.kernel.symbols import Range
from zombiebpf.kernel.variants import FACTS, TRACEPOINT, VARIANTS, Variant


class Choice(NamedTuple):
    """The hook a fact is taken from, and why this one."""

    variant: Variant
    why: str
    way: str = ""  # how its functions are hooked

    @property
    def hook(self) -> str:
        """As reports show it."""
        return self.variant.hook.format(way=self.way)


def _nothing_can(way: str, function: str) -> Optional[str]:
    return "not tried"


class Preemption(NamedTuple):
    """Where a task can be preempted while it runs a BPF program, which is not run for others on
    that processor meanwhile (kernel/bpf/trampoline.c, kernel/trace/bpf_trace.c)."""

    fentry: bool = False
    tracepoints: bool = False


class Kernel(NamedTuple):
    """What the kernel answered."""

    btf: Optional[Btf]
    reap_sites: Sequence[Range]  # empty: the addresses are hidden
    tracefs: Optional[Path]
    # (way, function) -> why it cannot be hooked so, None: it can
    refusal: Callable[[str, str], Optional[str]] = _nothing_can
    preemption: Preemption = Preemption()

    def has_tracepoint(self, name: str) -> bool:
        if self.btf is not None:
            return self.btf.tracepoint_arguments(name) is not None
        if self.tracefs is not None:
            return any(self.tracefs.glob(f"events/*/{name}"))
        return True  # nothing to ask: attaching it will tell

    def tracepoint_arguments(self, name: str) -> int:
        """0 where there is nobody to ask."""
        count = None if self.btf is None else self.btf.tracepoint_arguments(name)
        return count or 0


def choose(kernel: Kernel, forced: Mapping[str, str]) -> dict[str, Choice]:
    """A hook for each fact. `forced` is fact -> variant's name, or `tracepoint`, `fentry` or
    `kprobe` for the best variant of that kind.

    UsageError for a fact or name that is not known, ZombiebpfError where a fact
    has no hook on this kernel.
    """
    names = {fact: _named(fact, given) for fact, given in forced.items()}
    for fact, name in names.items():
        _require_known(fact, name)
    return {fact: _best(kernel, fact, names.get(fact)) for fact in FACTS}


def _named(fact: str, given: str) -> str:
    """A kind of hook stands for the best variant of that kind."""
    for variant in VARIANTS:
        if variant.fact != fact:
            continue
        if given in variant.ways and variant.functions:
            return f"{variant.name}:{given}"
        if given == TRACEPOINT and not variant.functions:
            return variant.name
    return given


def _require_known(fact: str, given: str) -> None:
    names = {variant.name: variant for variant in VARIANTS if variant.fact == fact}
    if not names:
        raise UsageError(f"no fact {fact!r}", f"facts are {', '.join(FACTS)}")
    name, colon, way = given.partition(":")
    if name not in names:
        raise UsageError(f"no hook {given!r} for {fact}", f"hooks are {', '.join(sorted(names))}")
    variant = names[name]
    if colon and not (variant.functions and way in variant.ways):
        ways = [f"{name}:{way}" for way in variant.ways] if variant.functions else [name]
        raise UsageError(f"no hook {given!r} for {fact}", f"it is {' or '.join(ways)}")


def _best(kernel: Kernel, fact: str, given: Optional[str]) -> Choice:
    name, _, way = (given or "").partition(":")
    candidates = [each for each in VARIANTS if each.fact == fact and name in ("", each.name)]
    if kernel.preemption.tracepoints:
        candidates.sort(key=lambda each: not each.functions)
    obstacles: list[str] = []
    for variant in candidates:
        found, obstacle = ask(kernel, variant, [way] if way else ())
        if not obstacle:
            preempted = found == KPROBE and kernel.preemption.fentry
            return Choice(variant, _why(bool(given), obstacles, preempted), found)
        obstacles.append(obstacle)
    wanted = [name for each in candidates for name in each.tracepoints]
    missing = [name for name in wanted if not kernel.has_tracepoint(name)]
    if missing:
        raise ZombiebpfError(
            f"this kernel has no tracepoint {missing[0]}, which tells of every {fact}",
            "a kernel with CONFIG_TRACEPOINTS and Linux 5.8 or newer has it",
        )
    raise ZombiebpfError(
        f"--hook {fact}={given}: {obstacles[-1]}",
        f"leave `--hook {fact}=...` out, for the best that this kernel has",
    )


def ask(kernel: Kernel, variant: Variant, ways: Sequence[str] = ()) -> tuple[str, str]:
    """How its functions can be hooked, if it has any; and what stands in the way, "" nothing.

    The first of `ways` that can be; () the variant's own, the best first.
    """
    missing = [name for name in variant.tracepoints if not kernel.has_tracepoint(name)]
    if missing:
        return "", f"this kernel lacks {', '.join(missing)}"
    if not variant.functions:
        return "", ""
    reasons = []
    by_worth = sorted(variant.ways, key=lambda way: way == FENTRY and kernel.preemption.fentry)
    for way in ways or by_worth:
        for function in variant.functions:
            refusal = kernel.refusal(way, function)
            if refusal is not None:
                reasons.append(f"no {way} of {function}: {refusal}")
                break
        else:
            return way, ""
    return "", "; ".join(reasons)


def _why(forced: bool, obstacles: Sequence[str], preempted: bool) -> str:
    if forced:
        return "asked for by --hook"
    if obstacles:
        return "; ".join(obstacles)
    if preempted:
        return "a kprobe's program is never preempted; others are here, and miss events then"
    return "the most exact this kernel offers"


def macros(kernel: Kernel, choices: Mapping[str, Choice]) -> dict[str, str]:
    """What the probes are compiled with to have just the chosen hooks."""
    names = {fact: choice.variant.name for fact, choice in choices.items()}
    ways = _ways(choices)
    group_dead = kernel.tracepoint_arguments("sched_process_exit") >= 2
    flags = {
        "HOOK_WAKE_UP_NEW_TASK": names["fork"] == "wake_up_new_task",
        "HOOK_FINALIZE_EXEC": names["exec"] == "finalize_exec",
        "HOOK_TASKSTATS_EXIT": names["exit"] == "taskstats_exit",
        "HOOK_DO_WAIT": names["wait"] == "do_wait",
        "EXITS_LEFT_OUT": kernel.preemption.tracepoints and names["exit"] == "sched_process_exit",
        "WAITS_LEFT_OUT": kernel.preemption.tracepoints and names["wait"] == "sched_process_wait",
        "HOOK_SCHED_SWITCH": "sched_switch" in _tracepoints(choices),
        "HOOK_KMEM_CACHE_FREE": names["reap"] == "kmem_cache_free",
        "HOOK_RELEASE_TASK": names["reap"] == "release_task",
        "ZOMBIE_AT_SCHED_SWITCH": names["zombie"] == "sched_switch",
        "ZOMBIE_AT_PROC_EXIT_CONNECTOR": names["zombie"] == "proc_exit_connector",
        "REPARENT_AT_SCHED_SWITCH": names["reparent"] == "sched_switch",
        "REPARENT_AT_PROC_EXIT_CONNECTOR": names["reparent"] == "kill_orphaned_pgrp",
        "HOOK_PROC_EXIT_CONNECTOR": "proc_exit_connector" in ways,
        "HOOK_KILL_ORPHANED_PGRP": "kill_orphaned_pgrp" in ways,
        "EXIT_HAS_GROUP_DEAD": group_dead,
        "SWITCH_HAS_STATE": kernel.tracepoint_arguments("sched_switch") >= 4,
        **{f"FENTRY_{function}": way == FENTRY for function, way in ways.items()},
    }
    return {
        **{name: str(int(flag)) for name, flag in flags.items()},
        "EXIT_GROUP_DEAD(ctx)": "(ctx)->args[1]" if group_dead else "0",
        "REAP_CALL_SITE(site)": _call_site(kernel.reap_sites),
    }


def _call_site(ranges: Sequence[Range]) -> str:
    """A return address is in (start, end]: a call may be a function's last instruction."""
    if not ranges:
        return "1"
    tests = [f"(site) - {each.start + 1:#x}ULL < {each.end - each.start:#x}ULL" for each in ranges]
    return f"({' || '.join(tests)})"


def programs(choices: Mapping[str, Choice]) -> list[str]:
    """The tracepoints to attach to, in an order that never sees a fork without its end."""
    used = _tracepoints(choices)
    used.add("sched_process_free")  # what other hooks miss, it still tells
    order = [
        "sched_process_free",
        "kmem_cache_free",
        "sched_switch",
        "signal_generate",
        "sched_process_wait",
        "sched_process_exit",
        "sched_process_exec",
        "sched_process_fork",
    ]
    return [name for name in order if name in used]


def probes(kernel: Kernel, choices: Mapping[str, Choice]) -> list[Probe]:
    """The functions to hook, in an order that never sees a fork without its end."""
    return [
        Probe(name, way, (kernel.btf.function(name) or 0) if kernel.btf is not None else 0)
        for name, way in reversed(_ways(choices).items())
    ]


def _tracepoints(choices: Mapping[str, Choice]) -> set[str]:
    return {name for choice in choices.values() for name in choice.variant.tracepoints}


def _ways(choices: Mapping[str, Choice]) -> dict[str, str]:
    """Function -> how it is hooked: once, whatever number of facts it serves."""
    ways: dict[str, str] = {}
    for choice in choices.values():
        for name in choice.variant.functions:
            ways.setdefault(name, choice.way)
    return ways
