# SPDX-License-Identifier: Apache-2.0
"""Data flows one way, and so do imports; and the checks that guard this can fail."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import imports
from tools.imports import TABLE

MODULES = imports.read_modules()


def test_modules_and_their_imports_are_found() -> None:
    assert {"zombiebpf", "zombiebpf.bpf.btf", "zombiebpf.reports.text"} <= set(MODULES)
    found = imports.own_imports_of("zombiebpf.kernel.observer", MODULES)
    assert {"zombiebpf.kernel.machine", "zombiebpf.bpf.ringbuffer"} <= found


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_to_the_table(module: str) -> None:
    assert list(imports.violations(module, MODULES)) == []


def test_no_cycle_of_modules() -> None:
    graph = {module: imports.own_imports_of(module, MODULES) for module in MODULES}
    assert imports.cycles(graph) == []


def test_rows_are_in_the_order_of_the_data() -> None:
    """A row names only rows above it, so that the table itself has no cycle."""
    before: set[str] = set()
    for name, row in TABLE.items():
        assert row.imports <= before, name
        assert row.libraries <= imports.RESERVED, name
        before.add(name)


def test_every_row_and_permission_is_used() -> None:
    graph = imports.package_graph(MODULES)
    assert set(graph) == set(TABLE)
    assert {name: set(row.imports) for name, row in TABLE.items()} == graph


# what the checks find


def broken(module: str, source: str) -> list[str]:
    """What is wrong with a module of that name and text."""
    modules = {**MODULES, module: ast.parse(source)}
    return list(imports.violations(module, modules))


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("model.life", "from zombiebpf.lifecycle.builder import LifeBuilder", "upstream"),
        ("model.life", "from zombiebpf.cli import main", "upstream"),
        ("model.life", "import zombiebpf.kernel.hooks", "upstream"),
        ("model.life", "def f():\n    import zombiebpf.kernel.hooks", "upstream"),
        (
            "model.life",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zombiebpf.cli",
            "upstream",
        ),
        ("scenario.scene", "from zombiebpf.reports.text import write", "upstream"),
        ("model.life", "from .events import Fork", "not a module"),
        ("nowhere.life", "", "no row"),
        ("model.life", "import time", "not pure"),
        ("model.life", "import os.path as p\np.exists('a')", "imports os.path"),
        ("model.life", "import signal\nsignal.alarm(1)", "uses signal.alarm"),
        ("model.life", "import signal as s\ns.alarm(1)", "uses signal.alarm"),
        ("model.life", "from signal import alarm", "uses signal.alarm"),
        ("model.life", "import os\nos.read(0, 1)", "uses os.read"),
        ("model.life", "import os as o\nf = o.read", "uses os.read"),
        ("model.life", "import os\ngetattr(os, 'read')(0, 1)", "hands on the module os"),
        ("model.life", "import os\nmodule = os", "hands on the module os"),
        ("model.life", "open('x')", "uses open()"),
        ("model.life", "read = open", "uses open()"),
        ("reports.text", "print('x')", "uses print()"),
        ("model.life", "import os\nos.WNOHANG", ""),
        ("model.life", "from signal import Signals", ""),
        ("observe.pipeline", "import click", "imports click"),
        ("reports.output.destination", "import click", "imports click"),
        ("kernel.observer", "import sqlite3", "imports sqlite3"),
        (
            "attach.processes",
            "from zombiebpf.bpf.locate_bcc import import_bcc\nimport_bcc()",
            "bcc",
        ),
        ("cli.run", "import click, time", ""),
    ],
)
def test_a_violation_is_found(module: str, source: str, said: str) -> None:
    found = broken(f"zombiebpf.{module}", source)
    assert any(said in each for each in found) if said else found == []


@pytest.mark.parametrize(
    ("graph", "ring"),
    [
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, ["a", "b", "c"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["a", "b", "c"]),
        ({"a": {"b"}, "b": set(), "c": {"a", "b"}}, []),
    ],
)
def test_a_cycle_is_found(graph: Mapping[str, set[str]], ring: list[str]) -> None:
    assert imports.cycles(graph) == ring


def test_layers_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        imports.main()
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("cycles 0, upstream 0")
    assert " 1  model             pure" in lines
    docs = Path(imports.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "\n".join(lines[:-1]) in docs, "run `make imports` and copy its output there"
    assert any(line.split()[1:3] == ["__main__", "->"] for line in lines)
