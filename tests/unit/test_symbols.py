# SPDX-License-Identifier: Apache-2.0
"""Functions' address ranges from hand-made /proc/kallsyms."""

from __future__ import annotations

from pathlib import Path

import pytest

from zombiebpf.bpf.kallsyms import Range, find_functions, has_symbol

KALLSYMS = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81099ff0 t __pfx_release_task
ffffffff8109a000 T release_task
ffffffff8109a000 T release_task_alias
ffffffff8109a8c0 t release_task_later
ffffffff8109b000 t __exit_signal.isra.0
ffffffff8109b200 d release_task
ffffffff8109c000 t release_task.part.0
ffffffff8109c100 t my_release_task
ffffffff82000000 t release_task.cold
ffffffff82000040 t __cleanup_sighand.constprop.0.isra.3
ffffffffc0a00000 t release_task	[some_module]
ffffffffc0a00100 t last	[some_module]
"""
TASK = Range("release_task", 0xFFFFFFFF8109A000, 0xFFFFFFFF8109A8C0)
PART = Range("release_task.part.0", 0xFFFFFFFF8109C000, 0xFFFFFFFF8109C100)
COLD = Range("release_task.cold", 0xFFFFFFFF82000000, 0xFFFFFFFF82000040)
ISRA = Range("__exit_signal.isra.0", 0xFFFFFFFF8109B000, 0xFFFFFFFF8109B200)


@pytest.fixture
def kallsyms(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS)
    return path


def test_a_function_with_all_its_pieces(kallsyms: Path) -> None:
    assert find_functions(["release_task"], kallsyms) == [TASK, PART, COLD]


def test_several_functions_in_the_order_of_their_addresses(kallsyms: Path) -> None:
    found = find_functions(["__exit_signal", "release_task", "no_such_function"], kallsyms)
    assert found == [TASK, ISRA, PART, COLD]


def test_the_end_is_the_next_greater_address(kallsyms: Path) -> None:
    # not the alias, which lies at the same address
    assert find_functions(["release_task"], kallsyms)[0].end == 0xFFFFFFFF8109A8C0
    pieces = find_functions(["__cleanup_sighand"], kallsyms)
    assert [piece.end for piece in pieces] == [0xFFFFFFFFC0A00000]


def test_the_last_symbol_has_an_end_too(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("ffffffff8109a000 T release_task\n")
    (only,) = find_functions(["release_task"], path)
    assert only.start < only.end <= only.start + 0x1000


def test_hidden_addresses_are_none(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("".join(f"{'0' * 16} {line[17:]}\n" for line in KALLSYMS.splitlines()))
    assert find_functions(["release_task", "__exit_signal"], path) == []


def test_inlined_functions_are_none(kallsyms: Path) -> None:
    assert find_functions(["exit_notify"], kallsyms) == []


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert find_functions(["release_task"], tmp_path / "nothing") == []


def test_a_name_is_no_pattern(kallsyms: Path) -> None:
    assert find_functions(["release.task"], kallsyms) == []


def test_a_symbol_of_any_kind_of_the_kernel_itself(kallsyms: Path, tmp_path: Path) -> None:
    assert has_symbol("fixed_percpu_data", kallsyms)  # of which the address is hidden, too
    assert has_symbol("release_task.part.0", kallsyms)
    assert not has_symbol("release_task.part", kallsyms)
    assert not has_symbol("last", kallsyms)  # a module's
    assert not has_symbol("_text", tmp_path / "none")
