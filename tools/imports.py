# SPDX-License-Identifier: Apache-2.0
"""The architecture as a table: what each package of zombiebpf may import, checked and printed.

`make imports` prints the import graph by layers; tests/unit/test_imports.py holds every
module to the table. A row is a package or, where a part of one is held to more, that part:
the longest matching row counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NAME = "zombiebpf"


class Row(NamedTuple):
    """What the modules of one package may use."""

    imports: frozenset[str] = frozenset()  # rows
    pure: bool = False  # can neither wait, nor read, nor write
    libraries: frozenset[str] = frozenset()  # of RESERVED


def _row(imports: str = "", pure: bool = False, libraries: str = "") -> Row:
    return Row(frozenset(imports.split()), pure, frozenset(libraries.split()))


# In the order of the data. "version" is the package itself, zombiebpf/__init__.py.
TABLE: Mapping[str, Row] = {
    "version": _row(),
    "errors": _row(),
    "model": _row(pure=True),
    "bpf": _row("errors", libraries="bcc ctypes mmap"),
    "python.linetable": _row(pure=True),
    "python.offsets": _row(pure=True),
    "python.stacks": _row("model python.linetable", pure=True),
    "python": _row("model python.linetable python.offsets"),
    "kernel": _row(
        "bpf errors model python python.offsets python.stacks", libraries="bcc ctypes mmap"
    ),
    "wording": _row("model", pure=True),
    "lifecycle": _row("model", pure=True),
    "attribution": _row("errors lifecycle model", pure=True),
    "diagnosis": _row("attribution model wording", pure=True),
    "command": _row("errors"),
    "attach": _row("errors kernel"),
    "trace": _row("errors model", libraries="sqlite3"),
    "observe": _row(
        "attach attribution bpf command errors kernel lifecycle model trace version",
        libraries="ctypes",
    ),
    "reports": _row("diagnosis model wording", pure=True),
    "reports.output": _row("errors model reports"),
    "scenario": _row("command errors kernel model observe wording", libraries="ctypes"),
    "reports.scenario": _row("model reports scenario version wording", pure=True),
    "cli": _row(
        "attach command diagnosis errors kernel model observe reports reports.output"
        " reports.scenario scenario trace version wording",
        libraries="click",
    ),
    "__main__": _row("cli"),
}

# Libraries that only the rows naming them may import.
RESERVED = frozenset({"bcc", "click", "ctypes", "mmap", "sqlite3"})

# What pure modules may import, and of os and signal these names alone.
PURE_IMPORTS = frozenset({
    "__future__", "array", "base64", "bisect", "codecs", "collections", "contextlib", "csv",
    "dataclasses", "difflib", "enum", "functools", "hashlib", "heapq", "itertools", "jinja2",
    "json", "markupsafe", "math", "operator", "os", "re", "rich", "shlex", "signal", "statistics",
    "struct", "types", "typing", "unicodedata", "weakref", "yaml",
})  # fmt: skip
PURE_NAMES = {
    "os": frozenset({
        "WCOREDUMP", "WEXITSTATUS", "WIFEXITED", "WIFSIGNALED", "WNOHANG", "WTERMSIG",
        "get_terminal_size",
    }),
    "signal": frozenset({"Signals"}),
}  # fmt: skip
IMPURE_BUILTINS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})

Modules = Mapping[str, ast.Module]


def read_modules(package: Path = ROOT / NAME) -> dict[str, ast.Module]:
    """Parse every module of the package: name -> syntax tree."""
    modules = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return modules


def row_of(module: str) -> str:
    """Return the name of the row that a module belongs to; "" if there is none."""
    parts = module.split(".")[1:]
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        if name in TABLE:
            return name
    return "" if parts else "version"


def imports_of(module: str, modules: Modules) -> set[str]:
    """Return all modules that a module imports: in functions and under TYPE_CHECKING, too."""
    found = set()
    for node in ast.walk(modules[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in modules else base)
    return found


def own_imports_of(module: str, modules: Modules) -> set[str]:
    """Return the modules of the project that a module imports."""
    return {each for each in imports_of(module, modules) if each.split(".")[0] in (NAME, "")} - {
        module
    }


def violations(module: str, modules: Modules) -> Iterator[str]:
    """Yield each way in which a module breaks the table."""
    row = TABLE.get(row_of(module))
    if row is None:
        yield f"{module} belongs to no row of the table"
        return
    for other in sorted(own_imports_of(module, modules)):
        if other not in modules:
            yield f"{module} imports {other}, which is not a module of {NAME}"
        elif row_of(other) not in {row_of(module), *row.imports}:
            yield f"{module} imports {other}, upstream"
    outside = {each.split(".")[0] for each in imports_of(module, modules)} - {NAME}
    if _names(modules[module], "import_bcc"):
        outside.add("bcc")
    for library in sorted(outside & RESERVED - row.libraries):
        yield f"{module} imports {library}"
    if row.pure:
        for library in sorted(outside - PURE_IMPORTS):
            yield f"{module} imports {library}, and is not pure then"
        yield from _impure_names(module, modules[module])


def _names(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))


def _impure_names(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield uses of what waits, reads or writes, whatever name it was imported as."""
    aliases: dict[str, str] = {}  # name -> the module of PURE_NAMES that it stands for
    bases: set[ast.expr] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                if root in PURE_NAMES and root != alias.name:
                    yield f"{module}:{node.lineno} imports {alias.name}"
                elif root in PURE_NAMES:
                    aliases[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module in PURE_NAMES:
            for alias in node.names:
                if alias.name not in PURE_NAMES[node.module]:
                    yield f"{module}:{node.lineno} uses {node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            bases.add(node.value)
            library = aliases.get(node.value.id)
            if library is not None and node.attr not in PURE_NAMES[library]:
                yield f"{module}:{node.lineno} uses {library}.{node.attr}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if node.id in aliases and node not in bases:
                yield f"{module}:{node.lineno} hands on the module {aliases[node.id]}"
            elif node.id in IMPURE_BUILTINS:
                yield f"{module}:{node.lineno} uses {node.id}()"


def cycles(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the members of import cycles: what is left when all others are taken away."""
    left = dict(graph)
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        if not free:
            return sorted(left)
        for name in free:
            del left[name]
    return []


def package_graph(modules: Modules) -> dict[str, set[str]]:
    """Return row -> the rows that its modules import."""
    graph: dict[str, set[str]] = {row_of(module): set() for module in modules}
    for module in modules:
        row = row_of(module)
        graph[row] |= {row_of(each) for each in own_imports_of(module, modules)} - {row}
    return graph


def layers(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the rows by layers: each imports from layers before its own only."""
    depth: dict[str, int] = {}
    left = {name: set(needs) for name, needs in graph.items()}
    while left:
        free = [name for name, needs in left.items() if needs <= depth.keys()]
        for name in free:
            depth[name] = 1 + max((depth[each] for each in left[name]), default=-1)
        left = {name: needs for name, needs in left.items() if name not in depth}
        if not free:
            break
    order = list(TABLE)
    return [
        sorted((name for name in depth if depth[name] == level), key=order.index)
        for level in range(max(depth.values(), default=-1) + 1)
    ]


def main() -> None:
    """Print the graph. Exit with 1 if a module breaks the table or there is a cycle."""
    modules = read_modules()
    graph = package_graph(modules)
    for number, names in enumerate(layers(graph), 1):
        for name in names:
            needs = " ".join(sorted(graph[name], key=list(TABLE).index))
            mark = "pure" if TABLE[name].pure else ""
            print(f"{number:>2}  {name:<17} {mark:<5} {'-> ' if needs else ''}{needs}".rstrip())
    by_module = {module: own_imports_of(module, modules) for module in modules}
    rings = cycles(by_module) or cycles(graph)
    wrong = [each for module in modules for each in violations(module, modules)]
    for each in wrong:
        print(each)
    print(
        f"{len(modules)} modules, {len({name.split('.')[0] for name in graph})} packages;"
        f" cycles {len(rings)}{': ' if rings else ''}{' '.join(rings)}, upstream {len(wrong)}"
    )
    raise SystemExit(bool(rings or wrong))


if __name__ == "__main__":
    main()
