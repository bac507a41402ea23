# SPDX-License-Identifier: Apache-2.0
"""Which hook gives each fact on this kernel, chosen by asking the kernel, never by version.

The hooks' meaning and cost are told in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.kernel.btf import Btf
from zombiebpf.kernel.symbols import Range

# The functions whose frees of a sighand_struct are reaps; those that are inlined
# (all but release_task, as a rule) simply are not found.
REAP_FUNCTIONS = ("release_task", "__exit_signal", "__cleanup_sighand")


class Variant(NamedTuple):
    """One way to learn one fact."""

    fact: str
    name: str  # as --hook FACT=NAME takes it
    tracepoints: Sequence[str]  # all must be there
    hook: str  # as reports show it
    precision: str


# For each fact, the best first.
VARIANTS: Sequence[Variant] = (
    Variant("fork", "sched_process_fork", ["sched_process_fork"],
            "raw tracepoint sched_process_fork", "exact: before the child first runs"),
    Variant("exec", "sched_process_exec", ["sched_process_exec"],
            "raw tracepoint sched_process_exec", "exact: the new image is in place"),
    Variant("exit", "sched_process_exit", ["sched_process_exit"],
            "raw tracepoint sched_process_exit of the last thread", "exact: do_exit has begun"),
    Variant("zombie", "sched_switch", ["signal_generate", "sched_switch"],
            "raw tracepoint signal_generate, else the last sched_switch",
            "exact under tasklist_lock; a late bound where no signal is sent"),
    Variant("zombie", "signal_generate", ["signal_generate"],
            "raw tracepoint signal_generate",
            "exact under tasklist_lock; not seen where no signal is sent"),
    Variant("reparent", "sched_switch", ["signal_generate", "sched_switch"],
            "real_parent read at signal_generate, else the last sched_switch",
            "exact adopter; time exact, or an upper bound where marked"),
    Variant("reparent", "signal_generate", ["signal_generate"],
            "real_parent read at signal_generate",
            "adopter not seen where the dying thread sends no signal"),
    Variant("reap", "kmem_cache_free", ["kmem_cache_free", "sched_process_free"],
            "raw tracepoint kmem_cache_free in release_task",
            "exact: in the reaper, before its wait returns"),
    Variant("reap", "sched_process_free", ["sched_process_free"],
            "raw tracepoint sched_process_free",
            "a late bound, an RCU grace period after the reap; the reaper is not seen"),
    Variant("wait", "sched_process_wait", ["sched_process_wait"],
            "raw tracepoint sched_process_wait", "exact: do_wait() is entered"),
)  # fmt: skip

FACTS = tuple(dict.fromkeys(variant.fact for variant in VARIANTS))


class Choice(NamedTuple):
    """The hook a fact is taken from, and why this one."""

    variant: Variant
    why: str


class Kernel(NamedTuple):
    """What the kernel answered."""

    btf: Optional[Btf]
    reap_sites: Sequence[Range]  # empty: the addresses are hidden
    tracefs: Optional[Path]

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
    """A hook for each fact. `forced` is fact -> variant's name.

    UsageError for a fact or name that is not known, ZombiebpfError where a fact
    has no hook on this kernel.
    """
    for fact, name in forced.items():
        names = [variant.name for variant in VARIANTS if variant.fact == fact]
        if not names:
            raise UsageError(f"no fact {fact!r}", f"facts are {', '.join(FACTS)}")
        if name not in names:
            raise UsageError(f"no hook {name!r} for {fact}", f"hooks are {', '.join(names)}")
    chosen: dict[str, Choice] = {}
    for fact in FACTS:
        lacking: list[str] = []
        for variant in VARIANTS:
            if variant.fact != fact or forced.get(fact, variant.name) != variant.name:
                continue
            missing = [name for name in variant.tracepoints if not kernel.has_tracepoint(name)]
            if not missing:
                chosen[fact] = Choice(variant, _why(fact, fact in forced, lacking))
                break
            lacking += missing
        else:
            raise ZombiebpfError(
                f"this kernel has no tracepoint {lacking[0]}, which tells of every {fact}",
                "a kernel with CONFIG_TRACEPOINTS and Linux 5.8 or newer has it",
            )
    return chosen


def _why(fact: str, forced: bool, lacking: Sequence[str]) -> str:
    if forced:
        return "asked for by --hook"
    if lacking:
        return f"this kernel lacks {', '.join(lacking)}"
    others = sum(variant.fact == fact for variant in VARIANTS) > 1
    return "the most exact this kernel offers" if others else "the only one there is"


def macros(kernel: Kernel, choices: Mapping[str, Choice]) -> dict[str, str]:
    """What the probes are compiled with to have just the chosen hooks."""
    switch = any(choices[fact].variant.name == "sched_switch" for fact in ("zombie", "reparent"))
    group_dead = kernel.tracepoint_arguments("sched_process_exit") >= 2
    return {
        "HOOK_SCHED_SWITCH": str(int(switch)),
        "HOOK_KMEM_CACHE_FREE": str(int(choices["reap"].variant.name == "kmem_cache_free")),
        "EXIT_HAS_GROUP_DEAD": str(int(group_dead)),
        "EXIT_GROUP_DEAD(ctx)": "(ctx)->args[1]" if group_dead else "0",
        "SWITCH_HAS_STATE": str(int(kernel.tracepoint_arguments("sched_switch") >= 4)),
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
    used = {name for choice in choices.values() for name in choice.variant.tracepoints}
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
