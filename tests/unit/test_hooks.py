# SPDX-License-Identifier: Apache-2.0
"""Which hooks are chosen on which kernel, and what the probes are compiled with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest

from tests.unit.btf_blobs import of_structs
from zombiebpf.bpf.btf import Btf
from zombiebpf.bpf.functions import FENTRY, KPROBE, Probe
from zombiebpf.bpf.kallsyms import Range
from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.kernel import attach_scan, hooks
from zombiebpf.kernel.hooks import Kernel, Preemption, choose, macros, probes, programs
from zombiebpf.kernel.layout import TRACEPOINTS, btf_names
from zombiebpf.kernel.variants import FACTS, FUNCTIONS, VARIANTS, Variant

# as on Linux 6.18
ARGUMENTS = {
    "sched_process_fork": 2,
    "sched_process_exec": 3,
    "sched_process_exit": 2,
    "sched_process_wait": 1,
    "sched_process_free": 1,
    "sched_switch": 4,
    "signal_generate": 5,
    "kmem_cache_free": 3,
}
NOWHERE = Preemption()
# where functions can be hooked, and where not
BEST = {
    "fork": "sched_process_fork",
    "exec": "sched_process_exec",
    "exit": "sched_process_exit",
    "zombie": "proc_exit_connector",
    "reparent": "kill_orphaned_pgrp",
    "reap": "release_task",
    "wait": "sched_process_wait",
}
# where tasks are preempted in tracepoints' programs
NOT_PREEMPTED = {
    **BEST,
    "fork": "wake_up_new_task",
    "exec": "finalize_exec",
    "exit": "taskstats_exit",
    "wait": "do_wait",
}
ON_TRACEPOINTS = {
    "fork": "sched_process_fork",
    "exec": "sched_process_exec",
    "exit": "sched_process_exit",
    "zombie": "sched_switch",
    "reparent": "sched_switch",
    "reap": "kmem_cache_free",
    "wait": "sched_process_wait",
}


def kernel(
    without: Sequence[str] = (),
    changed: Optional[Mapping[str, int]] = None,
    sites: Sequence[Range] = (),
    kinds: Sequence[str] = (),
    not_by: Optional[Mapping[str, Sequence[str]]] = None,
    preemption: Preemption = NOWHERE,
) -> Kernel:
    """`kinds`: how functions can be hooked; `not_by`: kind -> functions that are exceptions."""

    def refusal(kind: str, function: str) -> Optional[str]:
        assert function in FUNCTIONS
        if kind not in kinds:
            return "Operation not permitted"
        return "No such file or directory" if function in (not_by or {}).get(kind, ()) else None

    there = {**ARGUMENTS, **(changed or {})}
    for name in without:
        del there[name]
    btf = Btf(of_structs({}, there, FUNCTIONS), [*btf_names(), *FUNCTIONS])
    return Kernel(btf, sites, None, refusal, preemption)


def whole() -> Kernel:
    return kernel(kinds=[FENTRY, KPROBE])


def names(choices: Mapping[str, hooks.Choice]) -> dict[str, str]:
    return {fact: choice.variant.name for fact, choice in choices.items()}


def test_a_whole_kernel_gives_the_best_of_all() -> None:
    choices = choose(whole(), {})
    assert names(choices) == BEST
    assert choices["reap"].why == "the most exact this kernel offers"
    assert choices["reap"].hook == "fentry release_task"
    assert choices["zombie"].hook == (
        "raw tracepoint signal_generate, else fentry proc_exit_connector"
    )
    assert choices["fork"].why == "the most exact this kernel offers"
    assert choices["fork"].hook == "raw tracepoint sched_process_fork"


def test_where_no_function_can_be_hooked_tracepoints_do() -> None:
    choices = choose(kernel(), {})
    assert names(choices) == ON_TRACEPOINTS
    assert choices["reap"].why == (
        "no fentry of release_task: Operation not permitted; "
        "no kprobe of release_task: Operation not permitted"
    )
    assert probes(kernel(), choices) == []
    assert {choice.attach_kind for choice in choices.values()} == {""}


def test_a_kind_of_hook_stands_for_the_best_of_that_kind() -> None:
    facts = dict.fromkeys(("fork", "zombie", "reparent", "reap"), "tracepoint")
    assert names(choose(whole(), facts)) == ON_TRACEPOINTS
    choices = choose(whole(), {"reap": "kprobe", "zombie": "fentry", "fork": "kprobe"})
    assert names(choices) == {**BEST, "fork": "wake_up_new_task"}
    assert (choices["reap"].attach_kind, choices["zombie"].attach_kind) == (KPROBE, FENTRY)
    with pytest.raises(UsageError, match="no hook 'fentry' for fork"):
        choose(whole(), {"fork": "fentry"})
    with pytest.raises(ZombiebpfError, match="no fentry of release_task"):
        choose(kernel(), {"reap": "fentry"})


def test_where_there_is_no_fentry_a_kprobe_does() -> None:
    asked = kernel(kinds=[KPROBE])
    choices = choose(asked, {})
    assert names(choices) == BEST
    assert choices["reap"].hook == "kprobe release_task"
    assert {each.attach_kind for each in probes(asked, choices)} == {KPROBE}


def test_each_fact_is_asked_for_its_own_functions() -> None:
    """kill_orphaned_pgrp() is inlined here: the others are not the worse for it."""
    asked = kernel(
        kinds=[FENTRY, KPROBE],
        not_by={FENTRY: ["kill_orphaned_pgrp"], KPROBE: ["kill_orphaned_pgrp"]},
    )
    choices = choose(asked, {})
    assert names(choices) == {**BEST, "reparent": "sched_switch"}
    assert "no kprobe of kill_orphaned_pgrp: No such file" in choices["reparent"].why
    assert choices["reap"].attach_kind == FENTRY


def test_a_variant_hooks_all_its_functions_in_one_kind() -> None:
    asked = kernel(kinds=[FENTRY, KPROBE], not_by={FENTRY: ["proc_exit_connector"]})
    choices = choose(asked, {})
    assert names(choices) == BEST
    assert {choices[fact].attach_kind for fact in ("zombie", "reparent", "reap")} == {KPROBE}


@pytest.mark.parametrize("kind", [FENTRY, KPROBE])
def test_the_attach_kind_can_be_asked_for(kind: str) -> None:
    choices = choose(whole(), {"reap": f"release_task:{kind}"})
    assert choices["reap"].variant.name == "release_task"
    assert (choices["reap"].attach_kind, choices["reap"].why) == (kind, "asked for by --hook")


def test_a_function_is_hooked_once() -> None:
    forced = {"zombie": "proc_exit_connector:kprobe", "reap": "release_task:fentry"}
    found = probes(whole(), choose(whole(), forced))
    assert [(each.function, each.attach_kind) for each in found] == [
        ("release_task", FENTRY),
        ("kill_orphaned_pgrp", FENTRY),
        ("proc_exit_connector", KPROBE),
    ]


def test_where_all_programs_but_kprobes_are_preempted() -> None:
    asked = kernel(kinds=[FENTRY, KPROBE], preemption=Preemption(True, True))
    choices = choose(asked, {})
    assert names(choices) == NOT_PREEMPTED
    assert {choice.attach_kind for choice in choices.values()} == {KPROBE}
    assert choices["fork"].why == (
        "a kprobe's program is never preempted; others are here, and miss events then"
    )
    order = [each.function for each in probes(asked, choices)]
    assert order[-1] == "wake_up_new_task"  # the last: no life without the rest of it
    assert set(order) == set(FUNCTIONS)
    assert programs(choices) == ["sched_process_free", "sched_switch", "signal_generate"]
    found = macros(asked, choices)
    for name in ("WAKE_UP_NEW_TASK", "FINALIZE_EXEC", "TASKSTATS_EXIT", "DO_WAIT"):
        assert found[f"HOOK_{name}"] == "1"
    assert found["EXITS_LEFT_OUT"] == found["WAITS_LEFT_OUT"] == "0"


def test_where_fentry_is_preempted_and_tracepoints_are_not() -> None:
    asked = kernel(kinds=[FENTRY, KPROBE], preemption=Preemption(True, False))
    choices = choose(asked, {})
    assert names(choices) == BEST
    assert {choices[fact].attach_kind for fact in ("zombie", "reparent", "reap")} == {KPROBE}
    assert choices["exit"].why == "the most exact this kernel offers"


def test_preempted_programs_are_better_than_none() -> None:
    asked = kernel(kinds=[FENTRY], preemption=Preemption(True, True))
    choices = choose(asked, {})
    assert names(choices) == BEST
    assert choices["reap"].attach_kind == FENTRY
    assert choices["wait"].why == "no kprobe of do_wait: Operation not permitted"
    found = macros(asked, choices)
    assert found["EXITS_LEFT_OUT"] == found["WAITS_LEFT_OUT"] == "1"


@pytest.mark.parametrize("preemption", [NOWHERE, Preemption(True, True)])
def test_what_is_taken_over_first_has_a_program_of_its_own_at_tracepoints(
    preemption: Preemption,
) -> None:
    asked = kernel(kinds=[KPROBE], preemption=preemption)
    found = {name for name, _ in attach_scan.programs(asked, choose(asked, {}))}
    own = {"on_scan_exit", "on_scan_fork"}
    assert found & own == (set() if preemption.tracepoints else own)
    assert "on_scan_step" in found


def test_probes_name_the_function_of_btf() -> None:
    asked = whole()
    assert asked.btf is not None
    for each in probes(asked, choose(asked, {})):
        assert each == Probe(each.function, FENTRY, asked.btf.function(each.function) or -1)


@pytest.mark.parametrize(
    ("lacks", "instead"),
    [
        ("sched_switch", {"zombie": "signal_generate", "reparent": "signal_generate"}),
        ("kmem_cache_free", {"reap": "sched_process_free"}),
    ],
)
def test_where_the_best_is_missing_the_next_is_taken(lacks: str, instead: dict[str, str]) -> None:
    choices = choose(kernel([lacks]), {})
    assert names(choices) == {**ON_TRACEPOINTS, **instead}
    for fact in instead:
        assert choices[fact].why.endswith(f"this kernel lacks {lacks}")


@pytest.mark.parametrize(
    ("lacks", "fact"),
    [
        ("sched_process_fork", "fork"),
        ("sched_process_exec", "exec"),
        ("sched_process_exit", "exit"),
        ("signal_generate", "zombie"),
        ("sched_process_free", "reap"),
        ("sched_process_wait", "wait"),
    ],
)
def test_a_fact_without_any_hook_is_an_error(lacks: str, fact: str) -> None:
    with pytest.raises(ZombiebpfError) as raised:
        choose(kernel([lacks]), {})
    assert f"no tracepoint {lacks}, which tells of every {fact}" in raised.value.what
    assert raised.value.fix == "a kernel with CONFIG_TRACEPOINTS and Linux 5.8 or newer has it"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.fact}={variant.name}")
def test_any_hook_can_be_asked_for(variant: Variant) -> None:
    choices = choose(whole(), {variant.fact: variant.name})
    kind = variant.attach_kinds[0] if variant.functions else ""
    assert choices[variant.fact] == (variant, "asked for by --hook", kind)
    others = {fact: name for fact, name in names(choices).items() if fact != variant.fact}
    assert others == {fact: name for fact, name in BEST.items() if fact != variant.fact}


def test_a_hook_that_is_asked_for_and_missing_has_no_stand_in() -> None:
    with pytest.raises(ZombiebpfError, match="no tracepoint kmem_cache_free"):
        choose(kernel(["kmem_cache_free"]), {"reap": "kmem_cache_free"})


@pytest.mark.parametrize("given", ["release_task", "release_task:kprobe"])
def test_a_function_that_is_asked_for_and_cannot_be_hooked(given: str) -> None:
    with pytest.raises(ZombiebpfError) as raised:
        choose(kernel(), {"reap": given})
    assert raised.value.exit_code == 70
    assert raised.value.what.startswith(f"--hook reap={given}: no ")
    assert "no kprobe of release_task: Operation not permitted" in raised.value.what
    assert ("fentry" in raised.value.what) == (given == "release_task")
    assert raised.value.fix
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("release_task:uprobe", "it is release_task:fentry or release_task:kprobe"),
        ("release_task:", "it is release_task:fentry or release_task:kprobe"),
        ("kmem_cache_free:kprobe", "it is kmem_cache_free"),
    ],
)
def test_an_attach_kind_that_is_not_known(given: str, fix: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose(whole(), {"reap": given})
    assert str(raised.value) == f"no hook {given!r} for reap ({fix})"


def test_a_fact_that_is_not_known() -> None:
    with pytest.raises(UsageError) as raised:
        choose(kernel(), {"birth": "sched_process_fork"})
    assert str(raised.value) == (
        "no fact 'birth' (facts are fork, exec, exit, zombie, reparent, reap, wait)"
    )


def test_a_hook_that_is_not_known() -> None:
    with pytest.raises(UsageError) as raised:
        choose(kernel(), {"reap": "sched_switch"})
    assert str(raised.value) == (
        "no hook 'sched_switch' for reap (hooks are kmem_cache_free, "
        "release_task, sched_process_free)"
    )


def test_without_btf_tracefs_is_asked(tmp_path: Path) -> None:
    for name in ARGUMENTS:
        if name != "sched_switch":
            (tmp_path / "events" / "some_system" / name).mkdir(parents=True)
    asked = Kernel(None, [], tmp_path)
    assert names(choose(asked, {}))["zombie"] == "signal_generate"
    assert asked.tracepoint_arguments("sched_process_exit") == 0


def test_with_nobody_to_ask_the_best_is_tried() -> None:
    assert names(choose(Kernel(None, [], None), {})) == ON_TRACEPOINTS


def test_without_btf_a_kprobe_needs_none() -> None:
    asked = Kernel(None, [], None, lambda kind, function: None if kind == KPROBE else "no BTF")
    choices = choose(asked, {})
    assert names(choices) == BEST
    assert {each.btf_id for each in probes(asked, choices)} == {0}


def test_each_tracepoint_is_looked_up_in_btf() -> None:
    assert {name for variant in VARIANTS for name in variant.tracepoints} <= set(TRACEPOINTS)
    assert set(FACTS) == set(BEST)


# macros


def made(asked: Kernel, forced: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    return macros(asked, choose(asked, forced or {}))


EITHER = {
    "HOOK_SCHED_SWITCH": "1",
    "EXIT_HAS_GROUP_DEAD": "1",
    "EXIT_GROUP_DEAD(ctx)": "(ctx)->args[1]",
    "SWITCH_HAS_STATE": "1",
    "REAP_CALL_SITE(site)": "1",
}
PREEMPTED_ONLY = (
    "HOOK_WAKE_UP_NEW_TASK", "HOOK_FINALIZE_EXEC", "HOOK_TASKSTATS_EXIT", "HOOK_DO_WAIT",
    "EXITS_LEFT_OUT", "WAITS_LEFT_OUT",
)  # fmt: skip
TRACEPOINTS_ONLY = ("HOOK_KMEM_CACHE_FREE", "ZOMBIE_AT_SCHED_SWITCH", "REPARENT_AT_SCHED_SWITCH")
FUNCTIONS_ONLY = (
    "HOOK_RELEASE_TASK",
    "HOOK_PROC_EXIT_CONNECTOR",
    "HOOK_KILL_ORPHANED_PGRP",
    "ZOMBIE_AT_PROC_EXIT_CONNECTOR",
    "REPARENT_AT_PROC_EXIT_CONNECTOR",
)


def test_macros_of_a_kernel_with_tracepoints_only() -> None:
    assert made(kernel()) == {
        **EITHER,
        **dict.fromkeys(TRACEPOINTS_ONLY, "1"),
        **dict.fromkeys((*FUNCTIONS_ONLY, *PREEMPTED_ONLY), "0"),
    }


@pytest.mark.parametrize(("kinds", "fentry"), [([FENTRY, KPROBE], "1"), ([KPROBE], "0")])
def test_macros_of_a_whole_kernel(kinds: list[str], fentry: str) -> None:
    """sched_switch stays, for the sleeps of Python's threads."""
    assert made(kernel(kinds=kinds)) == {
        **EITHER,
        **dict.fromkeys((*TRACEPOINTS_ONLY, *PREEMPTED_ONLY), "0"),
        **dict.fromkeys(FUNCTIONS_ONLY, "1"),
        **{
            f"FENTRY_{name}": fentry
            for name in ("release_task", "proc_exit_connector", "kill_orphaned_pgrp")
        },
    }


def test_the_reap_alone_by_its_function() -> None:
    """What proc_exit_connector() is hooked for is said of each fact."""
    forced = {"zombie": "signal_generate", "reparent": "sched_switch"}
    found = made(whole(), forced)
    assert found["HOOK_PROC_EXIT_CONNECTOR"] == found["HOOK_RELEASE_TASK"] == "1"
    for fact in ("ZOMBIE", "REPARENT"):
        assert found[f"{fact}_AT_PROC_EXIT_CONNECTOR"] == "0"
    assert found["ZOMBIE_AT_SCHED_SWITCH"] == "0"
    assert found["REPARENT_AT_SCHED_SWITCH"] == "1"


def test_macros_of_an_older_kernel() -> None:
    old = made(kernel(changed={"sched_process_exit": 1, "sched_switch": 3}))
    assert old["EXIT_HAS_GROUP_DEAD"] == "0"
    assert old["EXIT_GROUP_DEAD(ctx)"] == "0"
    assert old["SWITCH_HAS_STATE"] == "0"


@pytest.mark.parametrize(
    ("zombie", "reparent", "switch"),
    [
        ("sched_switch", "sched_switch", "1"),
        ("sched_switch", "signal_generate", "1"),
        ("signal_generate", "sched_switch", "1"),
        ("signal_generate", "signal_generate", "0"),
    ],
)
def test_sched_switch_is_compiled_in_for_either(zombie: str, reparent: str, switch: str) -> None:
    forced = {"zombie": zombie, "reparent": reparent}
    assert made(kernel(), forced)["HOOK_SCHED_SWITCH"] == switch
    assert ("sched_switch" in programs(choose(kernel(), forced))) == (switch == "1")


def test_a_late_reap_needs_no_kmem_cache_free() -> None:
    forced = {"reap": "sched_process_free"}
    assert made(kernel(), forced)["HOOK_KMEM_CACHE_FREE"] == "0"
    assert "kmem_cache_free" not in programs(choose(kernel(), forced))


def is_reap(expression: str, site: int) -> bool:
    """What C says of the macro's body: 64-bit unsigned arithmetic that wraps."""
    assert re.fullmatch(r"[()|<\- 0-9a-fxULsite]+", expression)
    python = re.sub(r"\(site\) - (0x[0-9a-f]+)ULL", r"((site - \1) % 2**64)", expression).replace(
        "ULL", ""
    )
    return bool(eval(python.replace("||", "or"), {"site": site}))


TASK = Range("release_task", 0xFFFFFFFF8109A000, 0xFFFFFFFF8109A8C0)
COLD = Range("release_task.cold", 0xFFFFFFFF82000000, 0xFFFFFFFF82000040)


@pytest.mark.parametrize("ranges", [[TASK], [TASK, COLD], [COLD, TASK]])
def test_the_call_site(ranges: list[Range]) -> None:
    """A return address lies behind the call: in (start, end]."""
    expression = made(kernel(sites=ranges))["REAP_CALL_SITE(site)"]
    for each in ranges:
        inside = [each.start + 1, each.start + 2, each.end - 1, each.end]
        outside = [each.start - 1, each.start, each.end + 1, each.end + 2]
        assert [is_reap(expression, site) for site in inside] == [True] * 4
        assert [is_reap(expression, site) for site in outside] == [False] * 4
    assert not is_reap(expression, 0)
    assert not is_reap(expression, 2**64 - 1)
    assert is_reap(expression, COLD.end) == (COLD in ranges)


def test_the_call_site_is_not_known() -> None:
    assert is_reap(made(kernel(sites=[]))["REAP_CALL_SITE(site)"], 12345)


# programs


def test_all_programs_in_their_order() -> None:
    order = programs(choose(kernel(), {}))
    assert sorted(order) == sorted(ARGUMENTS)
    assert order[-1] == "sched_process_fork"  # the last: no life without the rest of it
    assert order[0] == "sched_process_free"


def test_the_late_bound_is_always_there() -> None:
    assert "sched_process_free" in programs(choose(kernel(), {"reap": "kmem_cache_free"}))
    assert "sched_process_free" in programs(choose(kernel(), {"reap": "sched_process_free"}))
