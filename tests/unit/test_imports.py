# SPDX-License-Identifier: Apache-2.0
"""Data flow one way, and so do imports: an AST of each source file is asked."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "zombiebpf"
PROBES = PACKAGE.parent / "probes"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 350

# Room -> the rooms it may import, beside itself. "" is the package: its version. The
# reports of scenarios are a room of their own: scenarios use the words of reports.
ALLOWED: Mapping[str, set[str]] = {
    "": set(),
    "errors": set(),
    "events": set(),
    "stack": set(),
    "life": {"stack"},
    "python": {"events", "stack"},
    "wire": {"events"},
    "open_life": {"events", "life", "stack"},
    "kinship": {"events", "life", "open_life"},
    "lifecycle": {"events", "kinship", "life", "open_life", "stack"},
    "analysis": {"life", "stack"},
    "statistics": {"analysis", "life"},
    "attribution": {"analysis", "errors", "events", "life", "stack", "statistics"},
    "comparison": {"analysis", "attribution", "life", "statistics"},
    "sources": {"stack"},
    "reports": {"analysis", "attribution", "comparison", "life", "stack", "statistics"},
    "kernel": {"analysis", "errors", "events", "life", "lifecycle", "python", "stack", "wire"},
    "inheritance": {"errors"},
    "user": {"errors"},
    "command": {"errors", "inheritance", "user"},
    "sentinel": {"errors", "inheritance"},
    "supervision": {"command", "errors", "inheritance", "sentinel"},
    "pipeline": {
        "analysis",
        "attribution",
        "events",
        "kernel",
        "life",
        "lifecycle",
        "open_life",
    },
    "observe": {
        "",
        "analysis",
        "attribution",
        "command",
        "inheritance",
        "kernel",
        "life",
        "pipeline",
        "supervision",
        "trace",
        "user",
    },
    "trace": {"analysis", "errors", "life", "stack"},
    "saved": {"open_life", "analysis", "errors", "life", "stack", "trace"},
    "output": {"analysis", "errors", "reports", "sources"},
    "attach": {
        "analysis",
        "attribution",
        "errors",
        "events",
        "inheritance",
        "kernel",
        "life",
        "observe",
        "output",
        "pipeline",
        "reports",
        "trace",
    },
    "scenario": {
        "analysis",
        "command",
        "errors",
        "events",
        "inheritance",
        "kernel",
        "life",
        "lifecycle",
        "observe",
        "output",
        "reports",
        "supervision",
        "user",
    },
    "reports.scenario": {"", "analysis", "life", "reports", "scenario", "statistics"},
    "cli": {
        "",
        "analysis",
        "attach",
        "attribution",
        "command",
        "comparison",
        "errors",
        "inheritance",
        "kernel",
        "life",
        "observe",
        "output",
        "reports",
        "reports.scenario",
        "saved",
        "scenario",
        "trace",
        "user",
    },
    "__main__": {"cli"},
}

# From the wire on, all is pure: what these import can neither wait, nor read, nor write.
PURE = {
    "events",
    "stack",
    "wire",
    "life",
    "open_life",
    "kinship",
    "lifecycle",
    "analysis",
    "statistics",
    "attribution",
    "comparison",
    "reports",
    "reports.scenario",
}
READS = {"zombiebpf.attribution.files"}  # the rules, when it is told to
PURE_MODULES = {f"zombiebpf.python.{each}" for each in ("linetable", "offsets", "stacks")}
PURE_IMPORTS = {
    "__future__", "base64", "bisect", "codecs", "collections", "csv", "dataclasses", "difflib",
    "enum", "functools", "hashlib", "heapq", "itertools", "jinja2", "json", "markupsafe",
    "math", "operator", "os", "re", "rich", "shlex", "signal", "statistics", "struct", "types",
    "typing", "unicodedata", "yaml",
}  # fmt: skip
PURE_OS = {"WCOREDUMP", "WEXITSTATUS", "WIFEXITED", "WIFSIGNALED", "WTERMSIG", "get_terminal_size"}
PURE_SIGNAL = {"Signals"}
PURE_BUILTINS_NOT = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}

# What only these rooms may touch.
RESERVED = {
    "bcc": {"kernel"},
    "mmap": {"kernel"},
    "ctypes": {"kernel", "scenario"},
}


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def room_of(module: str) -> str:
    if module.startswith("zombiebpf.reports.scenario"):
        return "reports.scenario"
    return [*module.split("."), ""][1]


def is_for_types(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:` is not run."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All that is run some time, imports within functions too."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not is_for_types(child):
            yield from nodes(child)


def imports(module: str) -> set[str]:
    """The modules that a module imports; a name's own module where the name is one."""
    found = set()
    for node in nodes(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def own_imports(module: str) -> set[str]:
    return {each for each in imports(module) if each.split(".")[0] == "zombiebpf"}


def test_the_files_are_found() -> None:
    assert {"zombiebpf", "zombiebpf.kernel.btf", "zombiebpf.reports.text"} <= set(MODULES)
    assert "zombiebpf.kernel.btf" in imports("zombiebpf.kernel.layout")
    assert "zombiebpf.kernel.machine" in imports("zombiebpf.kernel.observer")
    assert "zombiebpf.kernel.selfcheck" in imports("zombiebpf.kernel.observer")  # in a function
    assert "zombiebpf.kernel.observer" not in imports("zombiebpf.kernel.selfcheck")  # for types


def test_each_room_has_its_place() -> None:
    assert {room_of(module) for module in MODULES} <= set(ALLOWED)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_points_upstream(module: str) -> None:
    room = room_of(module)
    assert {room_of(each) for each in own_imports(module)} - {room} <= ALLOWED[room]
    assert own_imports(module) <= set(MODULES), "it imports what is not there"


def test_rooms_lie_in_one_order() -> None:
    """The table itself has no cycle."""
    left = dict(ALLOWED)
    while left:
        free = [room for room, needs in left.items() if not needs & left.keys()]
        assert free, f"a cycle among {sorted(left)}"
        for room in free:
            del left[room]


def test_no_cycle_of_modules() -> None:
    left = {module: own_imports(module) - {module} for module in MODULES}
    while left:
        free = [module for module, needs in left.items() if not needs & left.keys()]
        assert free, f"a cycle among {sorted(left)}"
        for module in free:
            del left[module]


@pytest.mark.parametrize(
    "module", [each for each in MODULES if room_of(each) in PURE and each not in READS]
)
def test_what_follows_the_wire_is_pure(module: str) -> None:
    outside = {each.split(".")[0] for each in imports(module)} - {"zombiebpf"}
    assert outside <= PURE_IMPORTS
    for node in nodes(MODULES[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os":
                assert node.attr in PURE_OS, f"line {node.lineno}"
            elif node.value.id.startswith("signal_module"):
                assert node.attr in PURE_SIGNAL, f"line {node.lineno}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in PURE_BUILTINS_NOT, f"line {node.lineno}"
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in ("os", "signal", "builtins"), f"line {node.lineno}"


@pytest.mark.parametrize("module", MODULES)
def test_privileges_stay_in_their_rooms(module: str) -> None:
    outside = {each.split(".")[0] for each in imports(module)}
    if any(
        isinstance(node, ast.Name) and node.id == "import_bcc" for node in nodes(MODULES[module])
    ):
        outside.add("bcc")
    for name, rooms in RESERVED.items():
        if name in outside:
            assert room_of(module) in rooms, f"{module} imports {name}"


@pytest.mark.parametrize(
    "file",
    [*FILES, *sorted(PROBES.glob("*.[ch]"))],
    ids=lambda file: str(file.relative_to(PACKAGE.parent)),
)
def test_a_file_is_read_in_one_sitting(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
