# SPDX-License-Identifier: Apache-2.0
"""YAML read so that every error can say where: file:line, what is wrong, what would be valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Callable, Optional, TypeVar

import yaml

from zombiebpf.errors import UsageError
from zombiebpf.scenario.expression import Expression, ExpressionError, Number, duration, near

T = TypeVar("T")


class ScenarioError(UsageError):
    """An invalid scenario: `file:line: what is wrong (what would be valid)`."""


class Node:
    """A piece of a YAML document and its line. Its readers raise ScenarioError."""

    def __init__(self, node: yaml.Node, file: str, line: int = 0) -> None:
        """`line` is the line to report, if it is not that of the node itself."""
        self._node = node
        self._file = file
        self.line: int = line or node.start_mark.line + 1

    @classmethod
    def document(cls, text: str, file: str) -> Node:
        """Parse the only document of a text. Raise ScenarioError if it is not YAML."""
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark is not None else 1
            problem = getattr(error, "problem", None) or str(error)
            raise ScenarioError(f"{file}:{line}: this is no YAML: {problem}") from None
        finally:
            loader.dispose()
        if node is None:
            raise ScenarioError(f"{file}:1: nothing stands in it", "title, teaches, knobs, expect")
        return cls(node, file)

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self._file}:{self.line}"

    def error(self, what: str, right: Optional[str] = None) -> ScenarioError:
        """Return an error about this node: what is wrong, and what would be valid."""
        return ScenarioError(f"{self.where}: {what}", right)

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_sequence(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def mapping(self, what: str) -> dict[str, Node]:
        """Return the values by key, in the order of the file. A value has its key's line."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.error(f"{what} must be a mapping", "key: value")
        result: dict[str, Node] = {}
        for key_node, value in self._node.value:
            key = Node(key_node, self._file)
            name = key.plain()
            if not isinstance(name, str):
                raise key.error(f"{name!r} is no name")
            if name in result:
                raise key.error(f"{name!r} stands twice in {what}")
            result[name] = Node(value, self._file, key.line)
        return result

    def fields(self, what: str, known: Sequence[str], needed: Sequence[str] = ()) -> Fields:
        """Return the values by key; refuse keys that are not `known`, require the `needed`."""
        found = self.mapping(what)
        for name, node in found.items():
            if name not in known:
                raise node.error(f"{what} has no key {name!r}", near(name, known))
        for name in needed:
            if name not in found:
                raise self.error(f"{what} lacks the key {name!r}")
        return Fields(self, found)

    def sequence(self, what: str) -> list[Node]:
        """Return the items of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.error(f"{what} must be a list", "- item")
        return [Node(each, self._file) for each in self._node.value]

    def plain(self) -> Any:
        """Return the value as YAML has it."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(self._node, deep=True)
        except yaml.YAMLError as error:
            raise self.error(f"this is no plain value: {error}") from None
        finally:
            loader.dispose()

    def text(self, what: str) -> str:
        """Return non-empty text, without white space around it."""
        value = self.plain()
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{what} must be text, it is {value!r}", "put it in quotes")
        return value.strip()

    def boolean(self, what: str) -> bool:
        """Return true or false."""
        value = self.plain()
        if not isinstance(value, bool):
            raise self.error(f"{what} must be true or false, it is {value!r}")
        return value

    def integer(self, what: str) -> int:
        """Return a whole number."""
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"{what} must be a whole number, it is {value!r}")
        return int(value)

    def one_of(self, what: str, known: Sequence[str]) -> str:
        """Return one of the known texts."""
        value = self.plain()
        if value not in known:
            raise self.error(f"{what} cannot be {value!r}", near(str(value), known))
        return str(value)

    def some_of(self, what: str, known: Sequence[str]) -> tuple[str, ...]:
        """Return some of the known texts, given as a list or as a single one."""
        nodes = self.sequence(what) if self.is_sequence else [self]
        return tuple(each.one_of(what, known) for each in nodes)

    def expression(self, what: str, knobs: Mapping[str, object]) -> Expression:
        """Return arithmetic that can be evaluated with `knobs`."""
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.error(f"{what} must be a number or an expression, it is {value!r}")
        try:
            expression = Expression(value)
            expression.value(knobs)
        except ExpressionError as error:
            raise self.error(f"{what}: {error}") from None
        return expression

    def knob(self, what: str) -> object:
        """Return a number, a duration with a unit as seconds, true or false, text, or a list."""
        return _knob(self.plain(), self, what)


class Fields:
    """The values of a mapping with known keys."""

    def __init__(self, node: Node, found: Mapping[str, Node]) -> None:
        self.node = node
        self._found = found

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> Node:
        return self._found[name]

    def get(self, name: str) -> Optional[Node]:
        """Return the value of an optional key."""
        return self._found.get(name)

    def read(self, name: str, reader: Callable[[Node], T]) -> Optional[T]:
        """Return what `reader` makes of the value of an optional key."""
        return reader(self._found[name]) if name in self._found else None

    def flag(self, name: str) -> bool:
        """Return the boolean of an optional key; False without it."""
        return name in self._found and self._found[name].boolean(name)


def _knob(value: Any, node: Node, what: str) -> object:
    if isinstance(value, list):
        return [_knob(each, node, what) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, str):
        raise node.error(f"{what} cannot be {value!r}", "a number, a duration, text or a list")
    try:
        return duration(value)
    except ExpressionError:
        return value


def number(text: str) -> Number:
    """Read the value of `--set`. Raise ExpressionError if it is not a number or duration."""
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return duration(text)
