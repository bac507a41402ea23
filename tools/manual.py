# SPDX-License-Identifier: Apache-2.0
"""Man pages and shell completions of the commands, from what click knows of them.

    python tools/manual.py DIRECTORY       # writes man1/, bash/, zsh/, fish/ there

Both come from the texts of --help alone, so they cannot differ from it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import zombiebpf
from zombiebpf.cli import cli

PROGRAM = "zombiebpf"
VARIABLE = "_ZOMBIEBPF_COMPLETE"  # click's name for a program of this name
FILES = {"bash": PROGRAM, "zsh": f"_{PROGRAM}", "fish": f"{PROGRAM}.fish"}
_BLOCK = "\b"  # click: the paragraph that follows is kept line by line


def pages() -> Iterator[tuple[str, str]]:
    """(name, roff) of the program's page and of one for each command."""
    yield from _pages(cli, None, PROGRAM)


def _pages(
    command: click.Command, parent: click.Context | None, name: str
) -> Iterator[tuple[str, str]]:
    context = click.Context(command, parent=parent, info_name=name)
    title = context.command_path.replace(" ", "-")
    yield title, _page(command, context, title)
    for each, below in _commands(command, context):
        if not below.hidden:
            yield from _pages(below, context, each)


def _commands(
    command: click.Command, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield name, found


def _page(command: click.Command, context: click.Context, title: str) -> str:
    short = command.get_short_help_str(limit=200).rstrip(".")
    lines = [
        f'.TH {_quoted(title.upper())} 1 "" "{PROGRAM} {zombiebpf.__version__}" "User commands"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(short)}",
        ".SH SYNOPSIS",
        f".B {_text(context.command_path)}",
        _text(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(inspect.cleandoc(command.help or "")),
    ]
    options = [param.get_help_record(context) for param in command.get_params(context)]
    if any(record and record[1] for record in options):
        lines.append(".SH OPTIONS")
    for record in options:
        if record is not None and record[1]:
            lines += [".TP", f".B {_text(record[0])}", _text(" ".join(record[1].split()))]
    below = [(name, found) for name, found in _commands(command, context) if not found.hidden]
    if below:
        lines.append(".SH COMMANDS")
    for name, found in below:
        page = f"{title}-{name}"
        lines += [".TP", f".BR {_text(page)} (1)", _text(found.get_short_help_str(limit=200))]
    lines += _sections(inspect.cleandoc(command.epilog or ""))
    if context.parent is not None:
        above = context.parent.command_path.replace(" ", "-")
        lines += [".SH SEE ALSO", f".BR {_text(above)} (1)"]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        kept = paragraph.lstrip().startswith(_BLOCK)
        yield ".PP"
        if kept:
            body = [line for line in paragraph.splitlines() if line.strip() != _BLOCK]
            yield from (".nf", *(_text(line.lstrip(_BLOCK)) for line in body), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _sections(epilog: str) -> Iterator[str]:
    """An epilog's "Examples:" and the like become sections."""
    for paragraph in re.split(r"\n\s*\n", epilog.strip()):
        first, _, rest = paragraph.replace(_BLOCK, "").strip("\n").partition("\n")
        if rest and first.strip().endswith(":"):
            yield f".SH {_text(first.strip().rstrip(':').upper())}"
            yield from (".nf", *map(_text, inspect.cleandoc(rest).splitlines()), ".fi")
        elif paragraph.strip():
            yield from _paragraphs(paragraph)


def _text(text: str) -> str:
    """Roff that shows just this: no request at a line's start, no escape, real hyphens."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped[:1] in {".", "'"} else escaped


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


def completion(shell: str) -> str:
    """The script that makes `shell` complete our command line."""
    found = get_completion_class(shell)
    assert found is not None, shell
    names = {"complete_func": f"_{PROGRAM}_completion", "complete_var": VARIABLE}
    return found(cli, {}, PROGRAM, VARIABLE).source_template % {**names, "prog_name": PROGRAM}


def main() -> None:
    """Write all of it below the directory that is named."""
    target = Path(sys.argv[1])
    (target / "man1").mkdir(parents=True, exist_ok=True)
    for name, roff in pages():
        (target / "man1" / f"{name}.1").write_text(roff, encoding="utf-8")
    for shell, name in FILES.items():
        (target / shell).mkdir(exist_ok=True)
        (target / shell / name).write_text(completion(shell), encoding="utf-8")


if __name__ == "__main__":
    main()
