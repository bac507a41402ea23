# SPDX-License-Identifier: Apache-2.0
"""Choose a hook for each fact by what this kernel offers, never by its version.

docs/architecture.md describes the hooks and their cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from zombiebpf.bpf.btf import Types
from zombiebpf.bpf.functions import FENTRY, KPROBE, Probe
from zombiebpf.bpf.kallsyms import Range
from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.kernel.variants import FACTS, TRACEPOINT, VARIANTS, Variant


class Choice(NamedTuple):
    """The hook that a fact is taken from, and the reason for it."""

    variant: Variant
    why: str
    attach_kind: str = ""  # of its functions

    @property
    def hook(self) -> str:
        """The text for reports."""
        return self.variant.hook.format(kind=self.attach_kind)


def _never(attach_kind: str, function: str) -> Optional[str]:
    return "not tried"


class Preemption(NamedTuple):
    """The programs in which a task can be preempted.

    Meanwhile the kernel skips the program for all other tasks on that CPU
    (kernel/bpf/trampoline.c, kernel/trace/bpf_trace.c).
    """

    fentry: bool = False
    tracepoints: bool = False


class Kernel(NamedTuple):
    """What this kernel offers."""

    btf: Optional[Types]
    reap_sites: Sequence[Range]  # empty: the addresses are hidden
    tracefs: Optional[Path]
    # (attach kind, function) -> why it cannot be hooked so; None: it can
    refusal: Callable[[str, str], Optional[str]] = _never
    preemption: Preemption = Preemption()

    def has_tracepoint(self, name: str) -> bool:
        """Return whether there is such a tracepoint; True without BTF and tracefs."""
        if self.btf is not None:
            return self.btf.tracepoint_arguments(name) is not None
        if self.tracefs is not None:
            return any(self.tracefs.glob(f"events/*/{name}"))
        return True  # attaching to it will show

    def tracepoint_arguments(self, name: str) -> int:
        """Return how many arguments a tracepoint passes; 0 if unknown."""
        count = None if self.btf is None else self.btf.tracepoint_arguments(name)
        return count or 0


def choose(kernel: Kernel, forced: Mapping[str, str]) -> dict[str, Choice]:
    """Choose a hook for each fact.

    `forced` is fact -> variant's name, or `tracepoint`, `fentry` or `kprobe` for the best
    variant of that kind. Raise UsageError for an unknown fact or name, and ZombiebpfError if
    this kernel has no hook for a fact.
    """
    names = {fact: _variant_name(fact, given) for fact, given in forced.items()}
    for fact, name in names.items():
        _require_known(fact, name)
    return {fact: _best(kernel, fact, names.get(fact)) for fact in FACTS}


def _variant_name(fact: str, given: str) -> str:
    """Replace a kind of hook by the best variant of that kind."""
    for variant in VARIANTS:
        if variant.fact != fact:
            continue
        if given in variant.attach_kinds and variant.functions:
            return f"{variant.name}:{given}"
        if given == TRACEPOINT and not variant.functions:
            return variant.name
    return given


def _require_known(fact: str, given: str) -> None:
    names = {variant.name: variant for variant in VARIANTS if variant.fact == fact}
    if not names:
        raise UsageError(f"no fact {fact!r}", f"facts are {', '.join(FACTS)}")
    name, colon, kind = given.partition(":")
    if name not in names:
        raise UsageError(f"no hook {given!r} for {fact}", f"hooks are {', '.join(sorted(names))}")
    variant = names[name]
    kinds = variant.attach_kinds if variant.functions else ()
    if colon and kind not in kinds:
        known = [f"{name}:{each}" for each in kinds] or [name]
        raise UsageError(f"no hook {given!r} for {fact}", f"it is {' or '.join(known)}")


def _best(kernel: Kernel, fact: str, given: Optional[str]) -> Choice:
    name, _, kind = (given or "").partition(":")
    candidates = [each for each in VARIANTS if each.fact == fact and name in ("", each.name)]
    if kernel.preemption.tracepoints:
        candidates.sort(key=lambda each: not each.functions)
    obstacles: list[str] = []
    for variant in candidates:
        found, obstacle = check_variant(kernel, variant, [kind] if kind else ())
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


def check_variant(kernel: Kernel, variant: Variant, kinds: Sequence[str] = ()) -> tuple[str, str]:
    """Return how the variant's functions can be hooked, and why it cannot be used, or "".

    The attach kind is the first possible one of `kinds`; (): of the variant's, best first.
    It is "" for a variant without functions.
    """
    missing = [name for name in variant.tracepoints if not kernel.has_tracepoint(name)]
    if missing:
        return "", f"this kernel lacks {', '.join(missing)}"
    if not variant.functions:
        return "", ""
    reasons = []
    preempted = FENTRY if kernel.preemption.fentry else ""
    for kind in kinds or sorted(variant.attach_kinds, key=lambda each: each == preempted):
        for function in variant.functions:
            refusal = kernel.refusal(kind, function)
            if refusal is not None:
                reasons.append(f"no {kind} of {function}: {refusal}")
                break
        else:
            return kind, ""
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
    """Return the macros that compile just the chosen hooks into the probes."""
    names = {fact: choice.variant.name for fact, choice in choices.items()}
    kinds = _attach_kinds(choices)
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
        "HOOK_PROC_EXIT_CONNECTOR": "proc_exit_connector" in kinds,
        "HOOK_KILL_ORPHANED_PGRP": "kill_orphaned_pgrp" in kinds,
        "EXIT_HAS_GROUP_DEAD": group_dead,
        "SWITCH_HAS_STATE": kernel.tracepoint_arguments("sched_switch") >= 4,
        **{f"FENTRY_{function}": kind == FENTRY for function, kind in kinds.items()},
    }
    return {
        **{name: str(int(flag)) for name, flag in flags.items()},
        "EXIT_GROUP_DEAD(ctx)": "(ctx)->args[1]" if group_dead else "0",
        "REAP_CALL_SITE(site)": _call_site(kernel.reap_sites),
    }


def _call_site(ranges: Sequence[Range]) -> str:
    """Return a C test of a call site.

    A return address is in (start, end]: a call may be a function's last instruction.
    """
    if not ranges:
        return "1"
    tests = [f"(site) - {each.start + 1:#x}ULL < {each.end - each.start:#x}ULL" for each in ranges]
    return f"({' || '.join(tests)})"


def programs(choices: Mapping[str, Choice]) -> list[str]:
    """Return the tracepoints to attach to: fork last, so that no process lacks later events."""
    used = _tracepoints(choices)
    used.add("sched_process_free")  # it reports, late, reaps that other hooks miss
    order = [
        "sched_process_free", "kmem_cache_free", "sched_switch", "signal_generate",
        "sched_process_wait", "sched_process_exit", "sched_process_exec", "sched_process_fork",
    ]  # fmt: skip
    return [name for name in order if name in used]


def probes(kernel: Kernel, choices: Mapping[str, Choice]) -> list[Probe]:
    """Return the functions to hook: fork last, so that no process lacks later events."""
    return [
        Probe(name, kind, (kernel.btf.function(name) or 0) if kernel.btf is not None else 0)
        for name, kind in reversed(_attach_kinds(choices).items())
    ]


def _tracepoints(choices: Mapping[str, Choice]) -> set[str]:
    return {name for choice in choices.values() for name in choice.variant.tracepoints}


def _attach_kinds(choices: Mapping[str, Choice]) -> dict[str, str]:
    """Return function -> attach kind. A function is hooked once for all its facts."""
    kinds: dict[str, str] = {}
    for choice in choices.values():
        for name in choice.variant.functions:
            kinds.setdefault(name, choice.attach_kind)
    return kinds
