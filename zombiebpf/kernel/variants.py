# SPDX-License-Identifier: Apache-2.0
"""The ways to learn each fact from a kernel. Which is taken on one: hooks.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zombiebpf.kernel.functions import KPROBE, WAYS

# The functions whose frees of a sighand_struct are reaps; those that are inlined
# (all but release_task, as a rule) simply are not found.
REAP_FUNCTIONS = ("release_task", "__exit_signal", "__cleanup_sighand")


class Variant(NamedTuple):
    """One way to learn one fact."""

    fact: str
    name: str  # as --hook FACT=NAME takes it; NAME:fentry, NAME:kprobe where there are functions
    tracepoints: Sequence[str]  # all must be there
    hook: str  # as reports show it; {way} is fentry or kprobe
    precision: str
    functions: Sequence[str] = ()  # of the kernel, all hooked in one of `ways`
    ways: Sequence[str] = WAYS


# For each fact, the best first; where tasks can be preempted within a tracepoint's programs, those
# of functions before others: a kprobe's are never preempted (kernel/kprobes.c).
VARIANTS: Sequence[Variant] = (
    Variant("fork", "sched_process_fork", ["sched_process_fork"],
            "raw tracepoint sched_process_fork", "exact: before the child first runs"),
    Variant("fork", "wake_up_new_task", [], "{way} wake_up_new_task",
            "exact: before the child first runs", ["wake_up_new_task"], [KPROBE]),
    Variant("exec", "sched_process_exec", ["sched_process_exec"],
            "raw tracepoint sched_process_exec", "exact: the new image is in place"),
    Variant("exec", "finalize_exec", [], "{way} finalize_exec",
            "exact: the new image is in place", ["begin_new_exec", "finalize_exec"], [KPROBE]),
    Variant("exit", "sched_process_exit", ["sched_process_exit"],
            "raw tracepoint sched_process_exit of the last thread", "exact: do_exit has begun"),
    Variant("exit", "taskstats_exit", [], "{way} taskstats_exit of the last thread",
            "exact: do_exit has begun", ["taskstats_exit"], [KPROBE]),
    Variant("zombie", "proc_exit_connector", ["signal_generate", "sched_switch"],
            "raw tracepoint signal_generate, else {way} proc_exit_connector",
            "exact under tasklist_lock; where no signal is sent a late bound, by what lies between "
            "two calls in do_exit()", ["proc_exit_connector"]),
    Variant("zombie", "sched_switch", ["signal_generate", "sched_switch"],
            "raw tracepoint signal_generate, else the last sched_switch",
            "exact under tasklist_lock; a late bound where no signal is sent"),
    Variant("zombie", "signal_generate", ["signal_generate"],
            "raw tracepoint signal_generate",
            "exact under tasklist_lock; not seen where no signal is sent"),
    Variant("reparent", "kill_orphaned_pgrp", ["signal_generate", "sched_switch"],
            "{way} kill_orphaned_pgrp; to a sibling thread {way} proc_exit_connector",
            "exact under tasklist_lock; between threads of a process exact adopter, an upper bound",
            ["kill_orphaned_pgrp", "proc_exit_connector"]),
    Variant("reparent", "sched_switch", ["signal_generate", "sched_switch"],
            "real_parent read at signal_generate, else the last sched_switch",
            "exact adopter; time exact, or an upper bound where marked"),
    Variant("reparent", "signal_generate", ["signal_generate"],
            "real_parent read at signal_generate",
            "adopter not seen where the dying thread sends no signal"),
    Variant("reap", "release_task", ["sched_process_free"],
            "{way} release_task",
            "exact: in the reaper, before its wait returns",
            ["release_task", "proc_exit_connector"]),
    Variant("reap", "kmem_cache_free", ["kmem_cache_free", "sched_process_free"],
            "raw tracepoint kmem_cache_free in release_task",
            "exact: in the reaper, before its wait returns"),
    Variant("reap", "sched_process_free", ["sched_process_free"],
            "raw tracepoint sched_process_free",
            "a late bound, an RCU grace period after the reap; the reaper is not seen"),
    Variant("wait", "sched_process_wait", ["sched_process_wait"],
            "raw tracepoint sched_process_wait", "exact: do_wait() is entered"),
    Variant("wait", "do_wait", [], "{way} do_wait", "exact: do_wait() is entered", ["do_wait"],
            [KPROBE]),
)  # fmt: skip

TRACEPOINT = "tracepoint"  # with WAYS, the kinds of hooks
FACTS = tuple(dict.fromkeys(variant.fact for variant in VARIANTS))
FUNCTIONS = tuple(dict.fromkeys(name for variant in VARIANTS for name in variant.functions))


# Programs each run of which may tell something. They run in the context of a task, so that none is
# left out but by preemption (bpf.runs_left_out); the others, in interrupts too, where nothing dies.
TELLING = frozenset(
    f"on_{name}"
    for name in (
        "sched_process_fork",
        "sched_process_exec",
        "sched_process_exit",
        "sched_process_wait",
        "takeover_fork",
        "takeover_exit",
        *FUNCTIONS,
    )
)
