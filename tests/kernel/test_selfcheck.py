# SPDX-License-Identifier: Apache-2.0
"""The self-check: every hook proves itself, and no wrong layout does."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

import pytest

from zombiebpf.bpf.btf import Field, Types
from zombiebpf.bpf.functions import ATTACH_KINDS
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import cache, layout, machine
from zombiebpf.kernel.boot_facts import BootFacts
from zombiebpf.kernel.observer import Observer
from zombiebpf.kernel.program import NotCompiledError
from zombiebpf.kernel.variants import FUNCTIONS
from zombiebpf.observe import selfcheck
from zombiebpf.observe.selfcheck import start_observer

# bcc 0.26 warns of each str that is given for bytes
pytestmark = pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")

PR_GET_CHILD_SUBREAPER = 37

# Field -> how far it is moved, in bytes. Usually 8; 64 where the neighbour 8 bytes on
# has the same value in a plain process, so that nothing reported would be wrong: the words
# behind real_parent, children.next, mm, arg_end and filename are parent, children.prev,
# active_mm, env_start and interp.
# task_struct.exit_code and signal_struct.flags are not among them: from Linux 6.0 on every
# status comes from group_exit_code, so a wrong offset of these two changes no report.
MOVES = {
    "task_struct.pid": 8,
    "task_struct.tgid": 8,
    "task_struct.start_boottime": 8,
    "task_struct.exit_state": 8,
    "task_struct.real_parent": 64,
    "task_struct.group_leader": 8,
    "task_struct.children": 64,
    "task_struct.sibling": 8,
    "task_struct.signal": 8,
    "task_struct.sighand": 8,
    "task_struct.mm": 64,
    "task_struct.comm": 8,
    "signal_struct.nr_threads": 8,
    "signal_struct.group_exit_code": 8,
    "kernel_siginfo.si_code": 8,
    "mm_struct.arg_start": 8,
    "mm_struct.arg_end": 64,
    "linux_binprm.filename": 64,
    "kernfs_node.id": 8,
    "pid_namespace.ns.inum": 8,
    "upid.nr": 8,
}


class Moved(Types):
    """The running kernel's types, but for one field."""

    def __init__(self, btf: Types, name: str, move: int) -> None:
        self._btf = btf
        self._name = name
        self._move = move

    def field(self, owner: str, path: str) -> Optional[Field]:
        found = self._btf.field(owner, path)
        if found is not None and f"{owner}.{path}" == self._name:
            return found._replace(offset=found.offset + self._move)
        return found

    def size(self, owner: str) -> Optional[int]:
        return self._btf.size(owner)

    def function(self, name: str) -> Optional[int]:
        return self._btf.function(name)

    def tracepoint_arguments(self, name: str) -> Optional[int]:
        return self._btf.tracepoint_arguments(name)


@pytest.mark.parametrize("name", MOVES)
def test_a_wrong_layout_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = layout.from_btf
    used = []

    def wrong(btf: Types) -> layout.Layout:
        made = real(Moved(btf, name, MOVES[name]))
        used.append(made.c != real(btf).c)
        return made

    monkeypatch.setattr(layout, "from_btf", wrong)
    monkeypatch.setattr(selfcheck, "_TIMEOUT_S", 0.5)  # what does not come by then never does
    with pytest.raises(ZombiebpfError) as raised:
        start_observer()
    assert set(used) == {True}  # twice, if what was kept of this kernel was asked again
    assert "\n" not in str(raised.value)
    assert raised.value.fix


def _moved(question: str, answer: Any) -> Any:
    """Return another answer of the same type, which cannot be right."""
    if question.startswith("field"):
        return [answer[0] + MOVES[".".join(question.split()[1:])], *answer[1:]]
    return [[name, start + (1 << 20), end + (1 << 20)] for name, start, end in answer]


@pytest.mark.parametrize(
    "question",
    ["field task_struct tgid", "field task_struct real_parent", "field upid nr", "addresses"],
)
def test_what_was_kept_is_asked_again_if_it_is_wrong(
    question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    start_observer().close()
    facts = BootFacts.of_this_boot()
    right = dict(facts._answers)
    (found,) = [each for each in right if f"{each} ".startswith(f"{question} ")]
    if not right[found]:
        pytest.fail("this kernel hides its addresses")
    facts._answers[found] = _moved(found, right[found])
    facts._is_new = True
    facts.keep()
    monkeypatch.setattr(selfcheck, "_TIMEOUT_S", 0.5)  # what does not come by then never does
    with start_observer() as observer:
        assert set(observer.lost().values()) == {0}
    assert BootFacts.of_this_boot()._answers == right


def _other(question: str, answer: Any) -> Any:
    """Return another answer of the same type, or one where there is none."""
    if answer is None:
        return [8, 4, 0, 0] if question.startswith("field") else 3
    if isinstance(answer, bool):
        return not answer
    if isinstance(answer, int):
        return answer + 1
    if question.startswith("addresses"):
        return [[name, start + 16, end + 16] for name, start, end in answer]
    return [answer[0] + 4, *answer[1:]]


@pytest.mark.parametrize("selecting", [False, True])
def test_no_kept_fact_is_used_if_it_is_wrong(
    selecting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that the self-check could not see: start_observer() asks again then."""
    monkeypatch.setenv(cache.CACHE, str(tmp_path / "cache"))
    start_observer(selecting=selecting).close()
    Observer.attach(selecting=selecting, facts=BootFacts.of_this_boot()).close()
    questions = list(BootFacts.of_this_boot()._answers)
    assert len(questions) > 40
    unnoticed = []
    for question in questions:
        facts = BootFacts.of_this_boot()
        facts._answers[question] = _other(question, facts._answers[question])
        with suppress(NotCompiledError), Observer.attach(selecting=selecting, facts=facts):
            unnoticed.append(question)
    assert unnoticed == []


@pytest.mark.parametrize(
    "forced",
    [
        {},
        {"reap": "sched_process_free"},
        {"zombie": "signal_generate", "reparent": "signal_generate"},
        {"zombie": "signal_generate", "reparent": "signal_generate", "reap": "sched_process_free"},
    ],
    ids=lambda forced: " ".join(f"{fact}={name}" for fact, name in forced.items()) or "best",
)
def test_each_hook_proves_itself(forced: Mapping[str, str]) -> None:
    with start_observer(forced) as observer:
        chosen = observer.hook_names()
        assert {fact: chosen[fact] for fact in forced} == forced
        assert set(observer.lost().values()) == {0}
        assert not observer.read()  # the trial's own events are not the user's


@pytest.mark.parametrize("kind", ATTACH_KINDS)
@pytest.mark.parametrize("silent", ["proc_exit_connector", "signal_generate"])
def test_functions_prove_themselves(kind: str, silent: str) -> None:
    """Or it is said that this kernel does not let them be hooked so."""
    forced = {"reap": f"release_task:{kind}", "zombie": f"{silent}:{kind}"}
    if silent == "signal_generate":
        forced.update(zombie=silent, reparent=silent)
    if _can(kind, "release_task", "proc_exit_connector"):
        with start_observer(forced) as observer:
            assert observer.hooks["reap"] == f"{kind} release_task"
            assert set(observer.lost().values()) == {0}
        return
    with pytest.raises(ZombiebpfError, match=f"no {kind} of"):
        start_observer(forced)


def test_all_that_a_task_tells_of_itself_by_kprobes() -> None:
    forced = dict.fromkeys(("fork", "exec", "exit", "wait", "reap"), "kprobe")
    if _can("kprobe", *(name for name in FUNCTIONS if name != "kill_orphaned_pgrp")):
        with start_observer(forced) as observer:
            assert {observer.choices[fact].attach_kind for fact in forced} == {"kprobe"}
            assert set(observer.lost().values()) == {0}
        return
    with pytest.raises(ZombiebpfError, match="no kprobe of"):
        start_observer(forced)


def _can(kind: str, *functions: str) -> bool:
    kernel = machine.ask_kernel(machine.read_btf().btf)
    return not any(kernel.refusal(kind, function) for function in functions)


def kept() -> tuple[object, ...]:
    """What an observer could leave in this process."""
    subreaper = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(subreaper), 0, 0, 0)
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return (
            sorted(os.listdir("/proc/self/fd")),
            dict(os.environ),
            subreaper.value,
            children.read(),
        )


def start_and_close() -> None:
    start_observer().close()
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join()  # functions are detached in threads


def test_nothing_of_it_stays() -> None:
    start_and_close()  # what bcc opens once and for all is open now
    before = kept()
    start_and_close()
    assert kept() == before
