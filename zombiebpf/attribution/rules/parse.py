# SPDX-License-Identifier: Apache-2.0
"""Parse a rules file. Every error names file and line, the problem and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import yaml

from zombiebpf.attribution.rules.rule import Pattern, Rule
from zombiebpf.errors import UsageError

_FLAGS = ("many", "needs_caller", "forked", "empty", "goes_on", "helper", "only_waits")
_TEXTS = ("kind", "join", "ran")
_PATTERNS = ("interrupted", "call")
_KEYS = (*_TEXTS, "stack", *_PATTERNS, *_FLAGS)


class RulesError(UsageError):
    """An invalid or unreadable rules file: `file:line: problem (fix)`."""


class Parsed(NamedTuple):
    """The content of a rules file."""

    rules: Sequence[Rule]
    objects: Sequence[Pattern]


def parse(text: str, file: str) -> Parsed:
    """Return the rules in `text`. Raise RulesError at the first problem, naming `file` and line."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except RecursionError:
        raise RulesError(f"{file}:1: this is no YAML of rules: it is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RulesError(f"{file}:{line}: this is no YAML: {problem}") from None
    if root is None:
        raise RulesError(f"{file}:1: nothing stands in it", "rules: [...]")
    return _File(file).parsed(root)


class _File:
    def __init__(self, name: str) -> None:
        self._name = name

    def parsed(self, root: yaml.Node) -> Parsed:
        rules: list[Rule] = []
        objects: list[Pattern] = []
        for key, node in self._mapping(root, "the file", ("rules", "objects")):
            if key == "rules":
                rules = [self._rule(each) for each in self._sequence(node, key)]
            else:
                objects = [self._pattern(each, key) for each in self._sequence(node, key)]
        if not rules:
            raise self._wrong(root, "it has no rules", "rules: [...]")
        return Parsed(rules, objects)

    def _rule(self, node: yaml.Node) -> Rule:
        fields: dict[str, Any] = {}  # of Rule
        for key, value in self._mapping(node, "a rule", _KEYS):
            if key == "stack":
                fields[key] = [self._pattern(each, key) for each in self._sequence(value, key)]
            elif key in _TEXTS:
                fields[key] = self._text(value, key)
            elif key in _PATTERNS:
                fields[key] = self._pattern(value, key)
            else:
                fields[key] = self._flag(value, key)
        if "kind" not in fields:
            raise self._wrong(node, "a rule lacks the key 'kind'", "kind: what it is called")
        if "stack" not in fields and not (fields.get("forked") or fields.get("empty")):
            raise self._wrong(node, "a rule lacks the key 'stack'", "stack: [module:function]")
        if "call" in fields and "join" not in fields:
            raise self._wrong(node, "'call' without 'join' means nothing", "join: its name")
        return Rule(stack=tuple(fields.pop("stack", ())), **fields)

    def _mapping(
        self, node: yaml.Node, what: str, known: Sequence[str]
    ) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, f"{what} must be a mapping", "key: value")
        seen = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                fix = f"{near[0]}?" if near else ", ".join(known)
                raise self._wrong(key, f"{what} has no key {name!r}", fix)
            if name in seen:
                raise self._wrong(key, f"{name!r} stands twice in {what}")
            seen.add(name)
            yield name, value

    def _sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, f"{what} must be a list", "[module:function]")
        return list(node.value)

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            raise self._wrong(node, f"{what} must be text")
        return " ".join(str(node.value).split())

    def _pattern(self, node: yaml.Node, what: str) -> Pattern:
        text = self._text(node, what)
        try:
            return Pattern(text)
        except ValueError as error:
            example = '"multiprocessing.pool:Pool.join"'
            raise self._wrong(node, f"{what}: {error}", example) from None

    def _flag(self, node: yaml.Node, what: str) -> bool:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
            return node.value.lower() in ("true", "yes", "on")
        raise self._wrong(node, f"{what} must be true or false")

    def _wrong(self, node: yaml.Node, what: str, fix: Optional[str] = None) -> RulesError:
        return RulesError(f"{self._name}:{node.start_mark.line + 1}: {what}", fix)
