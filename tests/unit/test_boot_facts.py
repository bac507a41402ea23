# SPDX-License-Identifier: Apache-2.0
"""What the kernel is, kept until it boots again: asked once, and never wrong for long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.unit.btf_blobs import of_structs
from zombiebpf.bpf.btf import Btf, Field
from zombiebpf.bpf.functions import FENTRY, Trial
from zombiebpf.bpf.kallsyms import Range
from zombiebpf.kernel import boot_facts, cache
from zombiebpf.kernel.boot_facts import (
    BootFacts,
    KnownTypes,
    find_known_functions,
    has_known_symbol,
    known_refusal,
)

NAME = "0a.boot"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv(cache.CACHE, str(directory))
    return directory


def never() -> Any:
    raise AssertionError("the kernel was asked again")


def next_start(facts: BootFacts) -> BootFacts:
    facts.keep()
    return BootFacts(NAME)


def test_an_answer_is_kept_for_the_next_start() -> None:
    first = BootFacts(NAME)
    assert not first.were_kept
    assert first.ask("how many", lambda: 7) == 7
    assert first.ask("how many", never) == 7
    second = next_start(first)
    assert second.were_kept
    assert second.ask("how many", never) == 7
    assert second.ask("what else", lambda: [1, 2]) == [1, 2]
    assert next_start(second).ask("what else", never) == [1, 2]


def test_an_answer_that_may_change_is_not_kept() -> None:
    first = BootFacts(NAME)
    assert first.ask("are there any", list, bool) == []
    assert next_start(first).ask("are there any", lambda: [3], bool) == [3]


def test_what_was_forgotten_is_asked_again() -> None:
    facts = BootFacts(NAME)
    facts.ask("how many", lambda: 7)
    facts = next_start(facts)
    facts.forget()
    assert not facts.were_kept
    assert not BootFacts(NAME).were_kept
    assert facts.ask("how many", lambda: 8) == 8


def test_what_was_used_is_the_same_whether_it_was_kept_or_not() -> None:
    real = Btf(of_structs({}, {}, ["do_exit"]), ["do_exit"])

    def start(facts: BootFacts) -> bytes:
        types = KnownTypes(facts, lambda: real)
        # a hook that was granted is not tried again, which would ask for the function's number
        assert known_refusal(facts, Granted(types), FENTRY, "do_exit") is None
        facts.ask("where", lambda: Field(8, 4, 0, 0))
        facts.ask("is it allowed", lambda: False, bool)
        return facts.used()

    first = BootFacts(NAME)
    before = start(first)
    second = next_start(first)
    assert start(second) == before
    assert b"function do_exit" in before
    second.forget()
    assert second.used() == b"{}"


@pytest.mark.parametrize("question", ["is it so", "where", "is it allowed"])
def test_what_was_used_has_every_answer(question: str) -> None:
    def used(**others: Any) -> bytes:
        facts = BootFacts()
        for each in ("is it so", "where", "is it allowed"):
            facts.ask(each, partial(others.get, each, 7))
        return facts.used()

    assert used(**{question: 8}) != used()
    assert used(**{question: None}) != used()


def test_without_a_name_nothing_is_kept(place: Path) -> None:
    facts = BootFacts()
    facts.ask("how many", lambda: 7)
    facts.keep()
    assert not place.exists()


def test_another_boot_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id = tmp_path / "boot_id"
    monkeypatch.setattr(boot_facts, "_BOOT_ID", boot_id)
    boot_id.write_text("one")
    facts = BootFacts.of_this_boot()
    facts.ask("how many", lambda: 7)
    facts.keep()
    assert BootFacts.of_this_boot().were_kept
    boot_id.write_text("two")
    assert not BootFacts.of_this_boot().were_kept
    boot_id.unlink()
    assert not BootFacts.of_this_boot().were_kept


def test_damaged_answers_are_none(place: Path) -> None:
    facts = BootFacts(NAME)
    facts.ask("how many", lambda: 7)
    facts.keep()
    file = place / NAME
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(bytes([*whole[:at], whole[at] ^ 1, *whole[at + 1 :]]))
        assert not BootFacts(NAME).were_kept
        file.write_bytes(whole[:at])
        assert not BootFacts(NAME).were_kept


STRUCTS = {"task_struct": {"pid": 8, "state": 16}}


def test_types_are_read_once() -> None:
    real = Btf(of_structs(STRUCTS, {"sched_switch": 4}, ["do_exit"]),
               ["task_struct", "btf_trace_sched_switch", "do_exit"])  # fmt: skip

    def answers(types: KnownTypes) -> tuple[object, ...]:
        return (
            types.field("task_struct", "state"), types.field("task_struct", "__state"),
            types.size("task_struct"), types.size("cred"),
            types.function("do_exit"), types.function("do_wait"),
            types.tracepoint_arguments("sched_switch"), types.tracepoint_arguments("no_such"),
        )  # fmt: skip

    facts = BootFacts(NAME)
    first = answers(KnownTypes(facts, lambda: real))
    assert first == answers(KnownTypes(next_start(facts), never))
    state, missing, size, no_size, function, no_function, arguments, no_arguments = first
    assert isinstance(state, Field)
    assert (state.offset, arguments) == (16, 4)
    assert function == real.function("do_exit")
    assert size == real.size("task_struct")
    assert (missing, no_size, no_function, no_arguments) == (None,) * 4


def test_addresses_that_are_hidden_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Sequence[Range] = []
    monkeypatch.setattr(boot_facts, "find_functions", lambda names: found)
    facts = BootFacts(NAME)
    assert find_known_functions(facts, ["release_task"]) == []
    found = [Range("release_task", 4096, 8192)]
    facts = next_start(facts)
    assert find_known_functions(facts, ["release_task"]) == found
    facts = next_start(facts)
    monkeypatch.setattr(boot_facts, "find_functions", never)
    assert find_known_functions(facts, ["release_task"]) == found


def test_a_symbol_is_asked_for_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_facts, "has_symbol", lambda name: False)
    facts = BootFacts(NAME)
    assert not has_known_symbol(facts, "tracepoint_srcu")
    monkeypatch.setattr(boot_facts, "has_symbol", lambda name: True)
    facts = next_start(facts)
    assert has_known_symbol(facts, "tracepoint_srcu")
    monkeypatch.setattr(boot_facts, "has_symbol", never)
    assert has_known_symbol(next_start(facts), "tracepoint_srcu")


class Granted(Trial):
    """A trial that looks the function up, and is always granted."""

    def refusal(self, attach_kind: str, function: str) -> Optional[str]:
        assert self.number(function)
        return None


class Tried(Trial):
    """A trial with a given result, which counts how often it was made."""

    def __init__(self, why: Optional[str]) -> None:
        super().__init__(None)
        self.why, self.count = why, 0

    def refusal(self, attach_kind: str, function: str) -> Optional[str]:
        self.count += 1
        return self.why


def test_only_a_refusal_is_tried_again() -> None:
    facts, refused = BootFacts(NAME), Tried("Operation not permitted")
    assert known_refusal(facts, refused, FENTRY, "do_exit") == "Operation not permitted"
    facts, granted = next_start(facts), Tried(None)
    assert known_refusal(facts, granted, FENTRY, "do_exit") is None
    assert known_refusal(next_start(facts), granted, FENTRY, "do_exit") is None
    assert known_refusal(next_start(facts), refused, FENTRY, "do_wait") is not None
    assert (refused.count, granted.count) == (2, 1)
