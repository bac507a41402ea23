# SPDX-License-Identifier: Apache-2.0
"""The commands: parse, call, print. One file each."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, Optional

import click

import zombiebpf
from zombiebpf.cli.doctor import doctor
from zombiebpf.cli.run import run
from zombiebpf.errors import EXIT_FAILURE, ZombiebpfError

EPILOG = """\b
Exit codes:
  0    fine (run: what CMD exited with, 128+N if signal N killed it)
  1    an expectation was not met
  2    usage
  70   zombiebpf failed: the line on stderr says why, and the cure
  77   not enough privilege
  126  CMD cannot be executed
  127  CMD was not found
"""


class _Failure(click.ClickException):
    """One line on stderr, and the error's exit code."""

    exit_code: int  # type: ignore[misc]  # click has one a class, we have one an error

    def __init__(self, error: ZombiebpfError) -> None:
        super().__init__(error.what)
        self.exit_code = error.exit_code
        self._cure = error.cure

    def show(self, file: Optional[IO[Any]] = None) -> None:
        cure = f"; {self._cure}" if self._cure else ""
        click.echo(f"zombiebpf: {self.message}{cure}", err=True, file=file)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZombiebpfError as error:
            raise _Failure(error) from None


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(zombiebpf.__version__, prog_name="zombiebpf")
def cli() -> None:
    """See in the kernel how processes die: when each was forked, became a zombie, was
    reparented and reaped, by whom and by which call."""


cli.add_command(run)
cli.add_command(doctor)


def main() -> None:
    """The entry point: never a traceback, whatever happens."""
    try:
        cli(prog_name="zombiebpf")
    except BrokenPipeError:
        # the reader of our output has gone: nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if os.environ.get("ZOMBIEBPF_TRACEBACK"):
            raise
        click.echo(
            f"zombiebpf: internal error: {type(error).__name__}: {error}; "
            "set ZOMBIEBPF_TRACEBACK=1 to see where, and please report it",
            err=True,
        )
        sys.exit(EXIT_FAILURE)
