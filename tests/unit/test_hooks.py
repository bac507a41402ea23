# SPDX-License-Identifier: Apache-2.0
"""Which hooks are chosen on which kernel, and what the probes are compiled with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest
from btf_blobs import of_structs

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.kernel import hooks
from zombiebpf.kernel.btf import Btf
from zombiebpf.kernel.hooks import FACTS, VARIANTS, Kernel, choose, macros, programs
from zombiebpf.kernel.layout import TRACEPOINTS, btf_names
from zombiebpf.kernel.symbols import Range

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
BEST = {
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
) -> Kernel:
    there = {**ARGUMENTS, **(changed or {})}
    for name in without:
        del there[name]
    return Kernel(Btf(of_structs({}, there), btf_names()), sites, None)


def names(choices: Mapping[str, hooks.Choice]) -> dict[str, str]:
    return {fact: choice.variant.name for fact, choice in choices.items()}


def test_a_whole_kernel_gives_the_best_of_all() -> None:
    choices = choose(kernel(), {})
    assert names(choices) == BEST
    assert choices["reap"].why == "the most exact this kernel offers"
    assert choices["fork"].why == "the only one there is"


@pytest.mark.parametrize(
    ("lacks", "instead"),
    [
        ("sched_switch", {"zombie": "signal_generate", "reparent": "signal_generate"}),
        ("kmem_cache_free", {"reap": "sched_process_free"}),
    ],
)
def test_where_the_best_is_missing_the_next_is_taken(lacks: str, instead: dict[str, str]) -> None:
    choices = choose(kernel([lacks]), {})
    assert names(choices) == {**BEST, **instead}
    for fact in instead:
        assert choices[fact].why == f"this kernel lacks {lacks}"


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
    assert raised.value.cure


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.fact}={variant.name}")
def test_any_hook_can_be_asked_for(variant: hooks.Variant) -> None:
    choices = choose(kernel(), {variant.fact: variant.name})
    assert choices[variant.fact] == (variant, "asked for by --hook")
    others = {fact: name for fact, name in names(choices).items() if fact != variant.fact}
    assert others == {fact: name for fact, name in BEST.items() if fact != variant.fact}


def test_a_hook_that_is_asked_for_and_missing_has_no_stand_in() -> None:
    with pytest.raises(ZombiebpfError, match="no tracepoint kmem_cache_free"):
        choose(kernel(["kmem_cache_free"]), {"reap": "kmem_cache_free"})


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
        "no hook 'sched_switch' for reap (hooks are kmem_cache_free, sched_process_free)"
    )


def test_without_btf_tracefs_is_asked(tmp_path: Path) -> None:
    for name in ARGUMENTS:
        if name != "sched_switch":
            (tmp_path / "events" / "some_system" / name).mkdir(parents=True)
    asked = Kernel(None, [], tmp_path)
    assert names(choose(asked, {}))["zombie"] == "signal_generate"
    assert asked.tracepoint_arguments("sched_process_exit") == 0


def test_with_nobody_to_ask_the_best_is_tried() -> None:
    assert names(choose(Kernel(None, [], None), {})) == BEST


def test_each_tracepoint_is_looked_up_in_btf() -> None:
    assert {name for variant in VARIANTS for name in variant.tracepoints} <= set(TRACEPOINTS)
    assert set(FACTS) == set(BEST)


# macros


def made(asked: Kernel, forced: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    return macros(asked, choose(asked, forced or {}))


def test_macros_of_a_whole_kernel() -> None:
    assert made(kernel()) == {
        "HOOK_SCHED_SWITCH": "1",
        "HOOK_KMEM_CACHE_FREE": "1",
        "EXIT_HAS_GROUP_DEAD": "1",
        "EXIT_GROUP_DEAD(ctx)": "(ctx)->args[1]",
        "SWITCH_HAS_STATE": "1",
        "REAP_CALL_SITE(site)": "1",
    }


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
