# SPDX-License-Identifier: Apache-2.0
"""What several commands share: options, their values, how they print."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional

import click

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.reports import FORMATS
from zombiebpf.trace import Rotation

HELP_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="The report's format.",
)
tree_option = click.option(
    "--tree", is_flag=True, help="The same as --format tree: the fork tree alone."
)

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_LONGEST_NS = 10_000 * _UNIT_NS["d"]
_PART = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(ns|us|ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([kmgt]?)(i?)b?", re.ASCII | re.IGNORECASE)
_SMALLEST_PART = 100_000  # bytes: below, a trace's own tables are most of it


def seconds(value: str) -> float:
    """A time, 0 or more; `inf` for no limit."""
    try:
        result = float(value)
    except ValueError:
        result = math.nan
    if not result >= 0:
        raise click.BadParameter(f"{value!r} is not a number of seconds, 0 or more")
    return result


def duration_ns(value: str) -> int:
    """`500ms`, `1.5s`, `10m`, `2h`, `1h30m`, `7d`: nanoseconds; a bare number is seconds."""
    text = value.strip()
    if re.fullmatch(r"\d{1,18}(\.\d{1,9})?", text, re.ASCII):
        text += "s"
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise click.BadParameter(f"{value!r} is no duration; such as 500ms, 10m or 1h30m")
    total = sum(round(float(number) * _UNIT_NS[unit]) for number, unit in parts)
    if total > _LONGEST_NS:
        raise click.BadParameter(f"{value!r} is longer than 10000 days")
    return total


def duration_s(value: str) -> float:
    """The same in seconds, for what waits; `inf` for no limit."""
    return math.inf if value == "inf" else duration_ns(value) / 1e9


def size_bytes(value: str) -> int:
    """`100MB`, `1.5G`, `64KiB`: bytes. K, M, G, T are powers of 1000, Ki... of 1024."""
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no size; such as 100MB or 2GiB")
    number, unit, binary = found.groups()
    power = " kmgt".index(unit.lower() or " ")
    if binary and not unit:
        raise click.BadParameter(f"{value!r} is no size; such as 100MB or 2GiB")
    return round(float(number) * float(1024 if binary else 1000) ** power)


def rotation(value: str) -> Rotation:
    """`100MB`: by size. `1h`: by age. What has no unit could be either, and is refused."""
    if value.strip()[-1:].lower() in ("b", "k", "g", "t", "i") or value.strip()[-1:] == "M":
        size = size_bytes(value)
        if size < _SMALLEST_PART:
            raise click.BadParameter(f"{value!r} is too small: 100kB at the least")
        return Rotation(size_bytes=size, age_ns=None)
    try:
        age_ns = 0 if value.strip()[-1:].isdigit() else duration_ns(value)
    except click.BadParameter:
        age_ns = 0
    if age_ns < _UNIT_NS["s"]:
        raise click.BadParameter(
            f"{value!r} is neither a size, such as 100MB, nor an age of 1s or more, such as 1h"
        )
    return Rotation(size_bytes=None, age_ns=age_ns)


def parse_hooks(values: Sequence[str]) -> dict[str, str]:
    """`FACT=NAME`... -> {fact: name}."""
    forced = {}
    for value in values:
        fact, equals, name = value.partition("=")
        if not (fact and equals and name):
            raise UsageError(
                f"--hook {value!r}: expected FACT=NAME", "`zombiebpf doctor` lists them"
            )
        forced[fact] = name
    return forced


def leave_deleted_directory() -> None:
    """libbcc and the shell fail in one; the descriptor that CMD gets it from stays open."""
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def print_lines(lines: Iterable[str]) -> None:
    """To standard output; that nobody reads on is no failure."""
    try:
        for line in lines:
            click.echo(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries again at its end
        raise ZombiebpfError(f"standard output: {error.strerror}") from None


def parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """As a callback of an option that may be repeated, or not be given."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(parse(each) for each in value)
        return None if value is None else parse(value)

    return callback


def require_trace(trace: Optional[str], rotate: Any, force: bool) -> None:
    """UsageError for options of a trace that is not written."""
    if trace is None and (rotate is not None or force):
        raise UsageError("--rotate and --force are about the trace", "give -o FILE")


def as_tree(tree: bool, format_: str) -> str:
    """The format that --tree, or its absence, leaves. UsageError where both are asked for."""
    if not tree:
        return format_
    if format_ not in ("text", "tree"):
        raise UsageError(f"--tree is a format of its own, not {format_}", "give one of them")
    return "tree"
