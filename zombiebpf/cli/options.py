# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and the groups in which commands take them."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Callable, Optional

import click

from zombiebpf.cli.values import parsed, rotation
from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Meta
from zombiebpf.trace import Rotation, TemporaryTrace, TraceWriter

Command = Callable[..., None]
Decorator = Callable[[Command], Command]


def grouped(command: Command) -> Command:
    """Pass options in groups: an argument whose type is a dataclass takes those of its fields."""
    groups = {
        name: kind
        for name, kind in typing.get_type_hints(command).items()
        if isinstance(kind, type) and is_dataclass(kind)
    }

    @functools.wraps(command)
    def wrapper(*args: Any, **options: Any) -> None:
        made = {
            name: kind(**{each.name: options.pop(each.name) for each in fields(kind)})
            for name, kind in groups.items()
        }
        command(*args, **options, **made)

    return wrapper


def option(
    flag: str,
    name: str,
    metavar: str,
    help_: str,
    parse: Callable[[str], Any] = str,
    multiple: bool = False,
) -> Decorator:
    """Return an option with a value, which `parse` converts; it may be repeated if `multiple`."""
    return click.option(
        flag, name, metavar=metavar, multiple=multiple, callback=parsed(parse), help=help_
    )


repeatable = functools.partial(option, multiple=True)


@dataclass(frozen=True)
class ReportOptions:
    """Which report to write, and where."""

    format_: Optional[str]  # None: not given
    tree: bool
    report_file: Optional[str]  # None: standard output or standard error

    @property
    def format(self) -> str:
        """The report's format. Raise UsageError if --tree contradicts --format."""
        if not self.tree:
            return self.format_ or "text"
        if self.format_ not in (None, "text", "tree"):
            raise UsageError(
                f"--tree is a format of its own, not {self.format_}", "give one of them"
            )
        return "tree"


def format_option(formats: Iterable[str], help_: str = "The report's format.") -> Decorator:
    """Return the option --format; the default is text."""
    choice = click.Choice(list(formats))
    return click.option(
        "--format", "format_", type=choice, default="text", show_default=True, help=help_
    )


def report_option(help_: str = "Write the report to FILE.  [default: stdout]") -> Decorator:
    """Return the option --report."""
    return option("--report", "report_file", "FILE", help_)


tree_option = click.option("--tree", is_flag=True,
    help="The same as --format tree: the fork tree alone.")  # fmt: skip


@dataclass(frozen=True)
class TraceOptions:
    """Which trace to write."""

    trace_file: Optional[str]  # None: none
    rotate: Optional[Rotation]
    force: bool

    def check(self) -> None:
        """Raise UsageError if there are options for a trace, but no trace."""
        if self.trace_file is None and (self.rotate is not None or self.force):
            raise UsageError("--rotate and --force are about the trace", "give -o FILE")

    def opener(self, warn: Callable[[str], None]) -> Callable[[Meta], TraceWriter]:
        """Return what creates the trace: a temporary one if none is asked for.

        See TraceWriter for `warn`.
        """
        if self.trace_file is None:
            return functools.partial(TemporaryTrace, warn=warn)
        return functools.partial(
            TraceWriter, self.trace_file, force=self.force, rotate=self.rotate, warn=warn
        )


def trace_options(help_: str, part: str) -> Decorator:
    """Return -o, --rotate and --force as one decorator; `part` is a word for the next file."""
    rotate = f"Go on in a new {part} at this size (100MB) or age (1h)."

    def add(command: Command) -> Command:
        command = click.option(
            "--force", is_flag=True, help="Replace the trace FILE that is there."
        )(command)
        command = option("--rotate", "rotate", "SIZE|AGE", rotate, rotation)(command)
        return click.option("-o", "--output", "trace_file", metavar="FILE", help=help_)(command)

    return add


@dataclass(frozen=True)
class ObserverOptions:
    """How to observe: which hooks to use, and by which rules to attribute."""

    hooks: tuple[str, ...]  # FACT=NAME
    rules: tuple[str, ...]  # files


rules_option = repeatable("--rules", "rules", "FILE",
    "Name calls of your own: attribution rules asked before the built-in ones.")  # fmt: skip
hook_option = repeatable("--hook", "hooks", "FACT=NAME",
    "Take FACT from another hook than the best; `zombiebpf doctor` lists them.")  # fmt: skip


def user_option(what: str) -> Decorator:
    """Return the option --user; `what` runs as that user."""
    help_ = f"Run {what} as this user. Under sudo, default: you."
    return click.option("-u", "--user", metavar="NAME", help=help_)
