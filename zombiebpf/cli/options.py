# SPDX-License-Identifier: Apache-2.0
"""What several commands share: options, their values, how they print."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

import click

from zombiebpf.errors import UsageError, ZombiebpfError

HELP_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def seconds(value: str) -> float:
    """A time, 0 or more; `inf` for no limit."""
    try:
        result = float(value)
    except ValueError:
        result = math.nan
    if not result >= 0:
        raise click.BadParameter(f"{value!r} is not a number of seconds, 0 or more")
    return result


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
