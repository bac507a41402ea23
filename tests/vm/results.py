# SPDX-License-Identifier: Apache-2.0
"""What is known of a row: build/vm/ROW/results.json. Each step's last outcome, and of which commit
it is; a run of some steps leaves what is known of the others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional
from xml.etree import ElementTree

Results = dict[str, Any]
FILE = "results.json"

# of tests/oracle/agree.py: the instants that differ by more than two handlers' order
_APART = {
    "reap": "reap",
    "adoption": "reparent",
    "zombie, no signal": "zombie without signal",
}
_OF_KPROBES = {"fork": "fork", "exec": "exec", "exit": "exit"}  # others have them of tracepoints


def read(place: Path) -> Results:
    """Of a row; empty if it was never run."""
    try:
        found: Results = json.loads((place / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {"facts": {}, "steps": {}}
    return found


def add(place: Path, facts: Mapping[str, str], steps: Sequence[Mapping[str, Any]]) -> Results:
    """Put these steps in the place of their earlier outcomes. What another kernel, bcc or Python
    gave is forgotten."""
    known = read(place)
    if any(known["facts"].get(key, value) != value for key, value in facts.items()):
        known = {"facts": {}, "steps": {}}
    known["facts"].update(facts)
    known["steps"].update({step["name"]: dict(step) for step in steps})
    (place / FILE).write_text(json.dumps(known, indent=1) + "\n", "utf-8")
    return known


def commit(root: Path, sent: Sequence[str]) -> str:
    """What is checked out; `+` behind it if what is sent into the VM was changed since."""
    git = ["git", "-c", f"safe.directory={root}", "-C", str(root)]

    def ask(*words: str) -> str:
        return subprocess.run(
            [*git, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
        ).stdout.strip()

    try:
        return ask("rev-parse", "--short=7", "HEAD") + "+" * bool(
            ask("status", "--porcelain", "--", *sent)
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def detail(place: Path, name: str) -> dict[str, Any]:
    """What the step `name` has left beside its log, in short."""
    found: dict[str, Any] = {}
    counts = _counts(place / f"{name}.xml") or _verdicts(_json(place / f"{name}.json"))
    if counts:
        found["counts"] = counts
    left = _json(place / f"{name}.json") or {}
    if left.get("hooks"):
        found["hooks"] = {hook["fact"]: _hook(hook) for hook in left["hooks"]}
    if left.get("sets"):
        found["agreement"] = _agreement(left)
    return found


def _hook(hook: Mapping[str, Any]) -> str:
    """`release_task (fentry)`: the name, and how a function is hooked."""
    way = next((way for way in ("fentry", "kprobe") if way in hook.get("hook", "")), None)
    return f"{hook['chosen']} ({way})" if way else str(hook["chosen"])


def _agreement(left: Mapping[str, Any]) -> dict[str, str]:
    """Of tests/oracle/agree.py: a column's title -> its cell."""
    cells = {"lives": str(left["lives"])}
    for name, count in left.get("left_out", {}).items():
        cells[f"{name}: lost by preemption"] = str(count)
    for way, found in left["sets"].items():
        cells[f"{way}: verdicts that differ"] = str(found["different"])
        for fact, title in {**_APART, **(_OF_KPROBES if way == "kprobe" else {})}.items():
            apart = found["apart_us"].get(fact)
            if apart:
                numbers = (apart["median"], apart["p99"], apart["max"])
                cells[f"{way}: {title}"] = ", ".join(f"{each:.1f}" for each in numbers)
    return cells


def forget_detail(place: Path, name: str) -> None:
    """What lies there is of an earlier run."""
    for suffix in ("xml", "json"):
        (place / f"{name}.{suffix}").unlink(missing_ok=True)


def _json(file: Path) -> Optional[dict[str, Any]]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _counts(file: Path) -> Optional[str]:
    """`48 passed, 1 skipped` of a JUnit file."""
    try:
        suite = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    suite = suite if suite.tag == "testsuite" else suite[0]
    number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    parts = [f"{passed} passed"]
    parts += [f"{failed} failed"] * bool(failed)
    parts += [f"{number['skipped']} skipped"] * bool(number["skipped"])
    return ", ".join(parts)


def _verdicts(document: Optional[Mapping[str, Any]]) -> Optional[str]:
    """`60 of 62 runs held`, of a report on scenarios."""
    runs = (document or {}).get("runs", [])
    held = sum(run.get("verdict") == "held" for run in runs)
    return f"{held} of {len(runs)} runs held" if runs else None
