# SPDX-License-Identifier: Apache-2.0
"""The command `zombiebpf doctor`: check this machine, with a fix for what is missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

import zombiebpf
from zombiebpf.cli import options
from zombiebpf.cli.console import HELP_SETTINGS, print_lines
from zombiebpf.command.inherited import leave_deleted_directory
from zombiebpf.observe.doctor import Check, Diagnosis, diagnose

EPILOG = """\b
Examples:
  sudo zombiebpf doctor
  sudo zombiebpf doctor --format json | jq '.checks[] | select(.ok | not)'

Exits with 0 when all that is needed is there, 77 without privilege, 70 otherwise.
"""


@click.command(epilog=EPILOG, context_settings=HELP_SETTINGS)
@options.format_option(["text", "json"], "How to print it.")
def doctor(format_: str) -> None:
    """Say what this machine offers an observer, and the fix for what is missing.

    It attaches the probes for a moment and checks what they tell against a process of its own.
    """
    leave_deleted_directory()
    diagnosis = diagnose()
    if format_ == "json":
        print_lines([json.dumps(_document(diagnosis), indent=2)])
    else:
        print_lines(_lines(diagnosis))
    sys.exit(diagnosis.exit_code)


def _document(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "schema": "zombiebpf-doctor/1",
        "version": zombiebpf.__version__,
        "ok": diagnosis.exit_code == 0,
        "checks": [_check(check) for check in diagnosis.checks],
        "hooks": [hook._asdict() for hook in diagnosis.hooks],
    }


def _check(check: Check) -> dict[str, object]:
    """Return a check as an object of the JSON contract, which calls its fix "cure"."""
    document = check._asdict()
    document["cure"] = document.pop("fix")
    return document


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for check in diagnosis.checks:
        mark = "ok" if check.ok else "MISSING" if check.needed else "note"
        yield f"{mark:>7}  {check.name}: {check.found}"
        if not check.ok and check.fix:
            yield f"{'':9}fix: {check.fix}"
    if diagnosis.hooks:
        yield ""
        yield "Hooks (another can be forced with `run --hook FACT=NAME`)"
    for hook in diagnosis.hooks:
        yield f"  {hook.fact:<9} {hook.chosen}: {hook.precision}"
        others = f"; also: {', '.join(hook.others)}" if hook.others else ""
        yield f"{'':12}{hook.hook}; {hook.why}{others}"
