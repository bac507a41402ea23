# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.vm [ROW...]`: the tests on other kernels, in emulated VMs (docs/kernels.md).

    make test-vm                    # every row
    make test-vm ROW=bookworm       # one
    make test-vm ROW=bookworm VM_ARGS='--ci'             # what fits in ten minutes
    make test-vm ROW=sid VM_ARGS='--step zoo'            # one step
    make test-vm ROW=trixie VM_ARGS='--whole'            # all kernel tests (hours)

Images are built from Debian's packages, by root, once; they are kept in ~/.cache/zombiebpf-vm.
Exit code: 0 all went well, 1 something failed, 2 it could not be tried.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from tests.vm import results, table
from tests.vm.boot import ROOT, SENT, Boot, boot
from tests.vm.images import Image, ImageError, image, missing_tools, require_tools
from tests.vm.rows import ROWS, Row
from tests.vm.steps import Step, steps

RESULTS = ROOT / "build" / "vm"
JOB_FILE = "job-results.json"  # as guest/job.py calls it
ATTEMPTS = 3  # an emulated kernel dies now and then, for reasons of the emulator


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """See the module."""
    options = _options(arguments)
    rows = [ROWS[name] for name in options.rows or ROWS]
    if options.tools:
        print(*dict.fromkeys(tool for row in rows for tool in missing_tools(row)))
        return 0
    failed = False
    for row in rows:
        chosen = _chosen(row, options)
        try:
            require_tools(row)
            print(f"{row.name}: image", flush=True)
            made = image(row)
        except ImageError as error:
            print(f"{row.name}: {error}", file=sys.stderr)
            return 2
        if options.ready:
            continue
        print(f"{row.name}: {made.release}, {', '.join(s.name for s in chosen)}", flush=True)
        out = RESULTS / row.name
        out.mkdir(parents=True, exist_ok=True)
        commit = results.commit(ROOT, SENT)  # before they change
        for arguments, group in itertools.groupby(chosen, key=lambda step: step.kernel_arguments):
            facts, done = _boot(row, made, list(group), out, arguments)
            results.add(out, facts, [{**step, "commit": commit} for step in done])
            failed |= not _report(row, done)
        print(f"{row.name}: logs in {out.relative_to(ROOT)}", flush=True)
        _give_back(RESULTS.parent)
    if options.table:
        table.write(ROOT / "docs" / "kernels.md", RESULTS)
    return int(failed)


def _options(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.vm")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--ready", action="store_true", help="only make the images")
    parser.add_argument("--tools", action="store_true", help="print which commands are missing")
    parser.add_argument("--ci", action="store_true", help="what fits in ten minutes")
    parser.add_argument("--whole", action="store_true", help="all kernel tests too")
    parser.add_argument("--step", action="append", help="only this, again for more")
    parser.add_argument("--table", action="store_true", help="write the table of docs/kernels.md")
    options = parser.parse_args(arguments)
    for name in options.rows:
        if name not in ROWS:
            parser.error(f"no row {name!r}: rows are {', '.join(ROWS)}")
    return options


def _chosen(row: Row, options: argparse.Namespace) -> list[Step]:
    if options.step:
        return [step for step in steps(row) if step.name in options.step]
    return [
        step
        for step in steps(row)
        if (step.in_ci or not options.ci) and (options.whole or not step.whole)
    ]


def _boot(
    row: Row, made: Image, chosen: Sequence[Step], out: Path, arguments: Sequence[str]
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The VM's facts, and of each step its outcome; `code` None of what was not reached."""
    job = json.dumps({"steps": [step.job() for step in chosen]})
    limit = 300 + sum(step.limit_s for step in chosen)
    for _ in range(ATTEMPTS):
        (out / JOB_FILE).unlink(missing_ok=True)
        for step in chosen:
            results.forget_detail(out, step.name)
        went = boot(row, made, job, out, limit, arguments)
        found: dict[str, Any] = {"facts": {"kernel": made.release}, "steps": []}
        if (out / JOB_FILE).exists():
            found = json.loads((out / JOB_FILE).read_text())
        done = [{**step, **results.detail(out, step["name"])} for step in found["steps"]]
        missing = chosen[len(done) :]
        print(f"{row.name}: {went.seconds:.0f} s, {went.cpu_s:.0f} s of them computing", flush=True)
        if went.code is not None and not missing:
            break
        print(f"{row.name}: the VM died:\n{_tail(went)}", flush=True)
    done += [{"name": step.name, "code": None, "seconds": 0, "tail": []} for step in missing]
    return found["facts"], done


def _give_back(place: Path) -> None:
    """Under sudo: what was left in a user's clone is the user's."""
    owner = ROOT.stat()
    if os.geteuid() == 0:
        for path in [place, *place.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _tail(went: Boot) -> str:
    return "\n".join(f"    {line}" for line in went.console.splitlines()[-15:])


def _report(row: Row, done: Sequence[dict[str, Any]]) -> bool:
    """Print how each step went; whether all went well."""
    for step in done:
        marks = {0: "ok", None: "not reached"}
        mark = marks.get(step["code"], f"FAILED ({step['code']})")
        counts = f" ({step['counts']})" if step.get("counts") else ""
        print(f"{row.name}: {step['name']}: {mark}{counts}, {step['seconds']:.0f} s", flush=True)
        if step["code"]:
            print("\n".join(f"    {line}" for line in step["tail"]), flush=True)
    return all(step["code"] == 0 for step in done)


if __name__ == "__main__":
    # so that the emulator ends with us
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
