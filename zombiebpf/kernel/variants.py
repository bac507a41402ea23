# SPDX-License-Identifier: Apache-2.0
"""The hooks that can report each fact; zombiebpf.kernel.hooks chooses one for this kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zombiebpf.bpf.functions import ATTACH_KINDS, KPROBE

# The functions whose frees of a sighand_struct are reaps; those that are inlined (usually all
# but release_task) are not found.
REAP_FUNCTIONS = ("release_task", "__exit_signal", "__cleanup_sighand")


class Variant(NamedTuple):
    """One hook, or a set of hooks, that reports one fact."""

    fact: str
    name: str  # for --hook FACT=NAME; with functions also NAME:fentry and NAME:kprobe
    tracepoints: Sequence[str]  # all are needed
    hook: str  # for reports; {kind} is fentry or kprobe
    precision: str
    functions: Sequence[str] = ()  # of the kernel, all hooked by one attach kind
    attach_kinds: Sequence[str] = ATTACH_KINDS


# For each fact, the best first. Where tasks can be preempted inside a tracepoint's programs, the
# variants with functions are better: a kprobe's are never preempted (kernel/kprobes.c).
VARIANTS: Sequence[Variant] = (
    Variant("fork", "sched_process_fork", ["sched_process_fork"],
            "raw tracepoint sched_process_fork", "exact: before the child first runs"),
    Variant("fork", "wake_up_new_task", [], "{kind} wake_up_new_task",
            "exact: before the child first runs", ["wake_up_new_task"], [KPROBE]),
    Variant("exec", "sched_process_exec", ["sched_process_exec"],
            "raw tracepoint sched_process_exec", "exact: the new image is in place"),
    Variant("exec", "finalize_exec", [], "{kind} finalize_exec",
            "exact: the new image is in place", ["begin_new_exec", "finalize_exec"], [KPROBE]),
    Variant("exit", "sched_process_exit", ["sched_process_exit"],
            "raw tracepoint sched_process_exit of the last thread", "exact: do_exit has begun"),
    Variant("exit", "taskstats_exit", [], "{kind} taskstats_exit of the last thread",
            "exact: do_exit has begun", ["taskstats_exit"], [KPROBE]),
    Variant("zombie", "proc_exit_connector", ["signal_generate", "sched_switch"],
            "raw tracepoint signal_generate, else {kind} proc_exit_connector",
            "exact under tasklist_lock; where no signal is sent a late bound, by what lies between "
            "two calls in do_exit()", ["proc_exit_connector"]),
    Variant("zombie", "sched_switch", ["signal_generate", "sched_switch"],
            "raw tracepoint signal_generate, else the last sched_switch",
            "exact under tasklist_lock; a late bound where no signal is sent"),
    Variant("zombie", "signal_generate", ["signal_generate"],
            "raw tracepoint signal_generate",
            "exact under tasklist_lock; not seen where no signal is sent"),
    Variant("reparent", "kill_orphaned_pgrp", ["signal_generate", "sched_switch"],
            "{kind} kill_orphaned_pgrp; to a sibling thread {kind} proc_exit_connector",
            "exact under tasklist_lock; between threads of a process exact adopter, an upper bound",
            ["kill_orphaned_pgrp", "proc_exit_connector"]),
    Variant("reparent", "sched_switch", ["signal_generate", "sched_switch"],
            "real_parent read at signal_generate, else the last sched_switch",
            "exact adopter; time exact, or an upper bound where marked"),
    Variant("reparent", "signal_generate", ["signal_generate"],
            "real_parent read at signal_generate",
            "adopter not seen where the dying thread sends no signal"),
    Variant("reap", "release_task", ["sched_process_free"],
            "{kind} release_task",
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
    Variant("wait", "do_wait", [], "{kind} do_wait", "exact: do_wait() is entered", ["do_wait"],
            [KPROBE]),
)  # fmt: skip

TRACEPOINT = "tracepoint"  # --hook FACT=tracepoint: the best variant without functions
FACTS = tuple(dict.fromkeys(variant.fact for variant in VARIANTS))
FUNCTIONS = tuple(dict.fromkeys(name for variant in VARIANTS for name in variant.functions))
STACK_FUNCTIONS = frozenset({"wake_up_new_task", "do_wait", "release_task"})  # walk Python stacks

# Programs that run in the context of a task only: the kernel skips a run only because of
# preemption, so a missed run may be a lost event. Others run in interrupts too.
TASK_CONTEXT_PROGRAMS = frozenset(
    f"on_{name}"
    for name in (
        "sched_process_fork", "sched_process_exec", "sched_process_exit", "sched_process_wait",
        "scan_fork", "scan_exit", *FUNCTIONS,
    )
)  # fmt: skip
