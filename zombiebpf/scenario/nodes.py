# SPDX-License-Identifier: Apache-2.0
"""Reading YAML so that every complaint can say where: file:line, what, what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import yaml

from zombiebpf.errors import UsageError
from zombiebpf.scenario.expression import Expression, ExpressionError, Number, duration, near


class ScenarioError(UsageError):
    """A scenario that cannot be used: `file:line: what is wrong (what would be right)`."""


class Node:
    """A piece of a YAML document that knows where it stands."""

    def __init__(self, node: yaml.Node, file: str) -> None:
        self._node = node
        self._file = file
        self.line: int = node.start_mark.line + 1

    @classmethod
    def document(cls, text: str, file: str) -> Node:
        """The only document of a text. ScenarioError if it is no YAML."""
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
        return f"{self._file}:{self.line}"

    def wrong(self, what: str, right: Optional[str] = None) -> ScenarioError:
        return ScenarioError(f"{self.where}: {what}", right)

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_sequence(self) -> bool:
        return isinstance(self._node, yaml.SequenceNode)

    def mapping(self, what: str) -> dict[str, Node]:
        """Key -> value, in the order of the file; each key once."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong(f"{what} must be a mapping", "key: value")
        result: dict[str, Node] = {}
        for key_node, value in self._node.value:
            key = Node(key_node, self._file)
            name = key.plain()
            if not isinstance(name, str):
                raise key.wrong(f"{name!r} is no name")
            if name in result:
                raise key.wrong(f"{name!r} stands twice in {what}")
            result[name] = _Value(value, self._file, key.line)
        return result

    def fields(self, what: str, known: Sequence[str], needed: Sequence[str] = ()) -> Fields:
        """The same, refusing keys that are not `known` and missing ones that are `needed`."""
        found = self.mapping(what)
        for name, node in found.items():
            if name not in known:
                raise node.wrong(f"{what} has no key {name!r}", near(name, known))
        for name in needed:
            if name not in found:
                raise self.wrong(f"{what} lacks the key {name!r}")
        return Fields(self, found)

    def sequence(self, what: str) -> list[Node]:
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong(f"{what} must be a list", "- item")
        return [Node(each, self._file) for each in self._node.value]

    def plain(self) -> Any:
        """The value as YAML has it."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(self._node, deep=True)
        except yaml.YAMLError as error:
            raise self.wrong(f"this is no plain value: {error}") from None
        finally:
            loader.dispose()

    def text(self, what: str) -> str:
        """A line or a paragraph; a folded one has no end of line at its end."""
        value = self.plain()
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(f"{what} must be text, it is {value!r}", "put it in quotes")
        return value.strip()

    def truth(self, what: str) -> bool:
        value = self.plain()
        if not isinstance(value, bool):
            raise self.wrong(f"{what} must be true or false, it is {value!r}")
        return value

    def whole(self, what: str) -> int:
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(f"{what} must be a whole number, it is {value!r}")
        return int(value)

    def one_of(self, what: str, known: Sequence[str]) -> str:
        value = self.plain()
        if value not in known:
            raise self.wrong(f"{what} cannot be {value!r}", near(str(value), known))
        return str(value)

    def some_of(self, what: str, known: Sequence[str]) -> tuple[str, ...]:
        """A list, or one alone."""
        nodes = self.sequence(what) if self.is_sequence else [self]
        return tuple(each.one_of(what, known) for each in nodes)

    def texts(self, what: str) -> tuple[str, ...]:
        return tuple(each.text(what) for each in self.sequence(what))

    def expression(self, what: str, knobs: Mapping[str, object]) -> Expression:
        """Arithmetic over `knobs`, which has a value with these."""
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.wrong(f"{what} must be a number or an expression, it is {value!r}")
        try:
            expression = Expression(value)
            expression.value(knobs)
        except ExpressionError as error:
            raise self.wrong(f"{what}: {error}") from None
        return expression

    def knob(self, what: str) -> object:
        """A number, a duration with its unit (then seconds), true or false, text, or a list."""
        return _knob(self.plain(), self, what)


class _Value(Node):
    """The value of a key: it stands where its key does."""

    def __init__(self, node: yaml.Node, file: str, line: int) -> None:
        super().__init__(node, file)
        self.line = line


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
        return self._found.get(name)


def _knob(value: Any, node: Node, what: str) -> object:
    if isinstance(value, list):
        return [_knob(each, node, what) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, str):
        raise node.wrong(f"{what} cannot be {value!r}", "a number, a duration, text or a list")
    return knob_value(value)


def knob_value(text: str) -> object:
    """`50 ms` -> 0.05; text that is no duration stays text."""
    try:
        return duration(text)
    except ExpressionError:
        return text


def number(text: str) -> Number:
    """What `--set` is given. ExpressionError if it is no number or duration."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return duration(text)
