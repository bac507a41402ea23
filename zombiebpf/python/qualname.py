# SPDX-License-Identifier: Apache-2.0
"""Find the qualified name (`Popen.wait`) of functions of CPython 3.7 to 3.10.

Code objects have co_qualname from 3.11 on. Before, it is derived from the source by
co_firstlineno and co_name, with the rules of compiler_set_qualname() (Python/compile.c).
The source is parsed, never run.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, Optional

# (lineage, file) -> the source text; None if it cannot be read. A lineage is a process and
# its forks, which see the same file by this name.
Reader = Callable[[int, str], Optional[str]]

MAX_CHARACTERS = 2 << 20  # of a source; a million take about 1 s to decode and parse
# Python 3.9 and 3.10 make the tree's objects by recursion without a limit, and crash at
# about 100000 levels, more than MAX_NESTED * MAX_CHAINED. Later versions refuse them.
MAX_CHAINED = 500
MAX_NESTED = 60  # brackets within one another
_MAX_FILES = 2048
_MAX_SOURCES = 256

_Names = Mapping[tuple[int, str], Optional[str]]  # None: two functions of different names
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_COMPREHENSION_NAMES: Mapping[type[ast.AST], str] = {
    ast.ListComp: "<listcomp>",
    ast.SetComp: "<setcomp>",
    ast.DictComp: "<dictcomp>",
    ast.GeneratorExp: "<genexpr>",
}


class Qualnames:
    """The qualified names in sources, of which the latest are cached."""

    def __init__(self, reader: Reader) -> None:
        """Read sources by `reader`."""
        self._reader = reader
        self._names_of_file = lru_cache(_MAX_FILES)(self._read)
        self._names_of_source = lru_cache(_MAX_SOURCES)(names_in)

    def of(self, lineage: int, file: str, firstlineno: int, name: str) -> Optional[str]:
        """Return co_qualname; None if the source is unreadable or two functions match."""
        if name == "<module>":
            return name
        if not file or file.startswith("<"):
            return None  # `<string>`, `<frozen importlib._bootstrap>`
        return self._names_of_file(lineage, file).get((firstlineno, name))

    def _read(self, lineage: int, file: str) -> _Names:
        source = self._reader(lineage, file)
        if source is None or len(source) > MAX_CHARACTERS:
            return {}
        return self._names_of_source(source)


def names_in(source: str) -> _Names:
    """Return (co_firstlineno, co_name) -> co_qualname; {} if the source cannot be parsed."""
    if _too_long_a_chain(source):
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the observed program's source
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[tuple[int, str], Optional[str]] = {}
    of_3_7: dict[tuple[int, str], Optional[str]] = {}
    for line, line_3_7, name, qualname in _walk(tree):
        for names, key in ((found, (line, name)), (of_3_7, (line_3_7, name))):
            if names.setdefault(key, qualname) != qualname:
                names[key] = None
    return {**of_3_7, **found}


class _Scope(NamedTuple):
    """The scope that the children of a node are compiled in."""

    prefix: str  # before the name of a function within
    globals: frozenset[str] = frozenset()  # declared `global` there


def _walk(tree: ast.AST) -> Iterator[tuple[int, int, str, str]]:
    """Yield first line, that of 3.7, name and qualified name of all that gets a code object."""
    todo: list[tuple[ast.AST, _Scope]] = [(tree, _Scope(""))]
    while todo:
        node, scope = todo.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            prefix = "" if node.name in scope.globals else scope.prefix
            yield first, first, node.name, prefix + node.name
            is_class = isinstance(node, ast.ClassDef)
            within = prefix + node.name + ("." if is_class else ".<locals>.")
            inner = _Scope(within, frozenset(_globals_of(node.body)))
            todo += [(each, inner) for each in node.body]
            for field, value in ast.iter_fields(node):  # decorators, defaults, bases
                if field != "body":
                    todo += [(each, scope) for each in _nodes(value)]
        elif isinstance(node, ast.Lambda):
            yield node.lineno, node.lineno, "<lambda>", f"{scope.prefix}<lambda>"
            todo.append((node.args, scope))
            todo.append((node.body, _Scope(f"{scope.prefix}<lambda>.<locals>.")))
        elif isinstance(node, _COMPREHENSIONS):
            name = _COMPREHENSION_NAMES[type(node)]
            parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
            yield node.lineno, parts[0].lineno, name, scope.prefix + name
            inner = _Scope(f"{scope.prefix}{name}.")
            first_loop, *loops = node.generators
            todo.append((first_loop.iter, scope))  # it is evaluated outside
            within_it = (*parts, first_loop.target, *first_loop.ifs, *loops)
            todo += [(each, inner) for each in within_it]
        else:
            todo += [(each, scope) for each in ast.iter_child_nodes(node)]


def _nodes(value: object) -> Iterator[ast.AST]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, ast.AST):
            yield each


def _globals_of(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the names declared global in this scope, without inner scopes."""
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Global):
            yield from node.names
        elif isinstance(node, ast.stmt) and not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
        elif isinstance(node, ast.ExceptHandler):
            todo += node.body


_TOKENS = re.compile(
    r"""(?s:'''(?:\\.|[^\\])*?'''|\"""(?:\\.|[^\\])*?\""")"""
    r"""|'(?:\\.|[^\\'\n])*'|"(?:\\(?s:.)|[^\\"\n])*"|\#[^\n]*"""
    r"""|[\[({]|[\])}]|[,:;\n]|[-+*/%&|^@.]"""
)


def _too_long_a_chain(source: str) -> bool:
    """Return whether an expression nests too deep to the left (`a.b.c`, `a + b`, `f()()`).

    Strings are tokens of more than one character. The result for broken source does not
    matter: the parser refuses it before it makes a tree.
    """
    counts = [0]  # links of the chain in each open pair of brackets
    for token in _TOKENS.finditer(source):
        kind = token[0]
        if kind in "[({":
            counts.append(0)
        elif kind in "])}":
            if len(counts) > 1:
                counts.pop()
            counts[-1] += 1
        elif kind in ",:;" or (kind == "\n" and len(counts) == 1):
            counts[-1] = 0
        elif len(kind) == 1 and kind != "\n":
            counts[-1] += 1
            if counts[-1] > MAX_CHAINED:
                return True
        if len(counts) > MAX_NESTED or counts[-1] > MAX_CHAINED:
            return True
    return False
