# SPDX-License-Identifier: Apache-2.0
"""docs/kernels.md: what the last run of each row gave, between two marks in the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional
from xml.etree import ElementTree

from tests.vm.rows import ROWS
from tests.vm.steps import steps

BEGIN = "<!-- written by `make test-vm VM_ARGS=--table` from here -->"
END = "<!-- to here -->"


def write(page: Path, results: Path) -> None:
    """Replace what stands between the marks. ValueError if the page has none."""
    text = page.read_text("utf-8")
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{page} has no marks")
    told = {name: _read(results / name) for name in ROWS}
    body = "\n".join(_tables({name: each for name, each in told.items() if each}))
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", "utf-8")


def _read(place: Path) -> Optional[dict[str, Any]]:
    try:
        results: dict[str, Any] = json.loads((place / "results.json").read_text())
    except (OSError, ValueError):
        return None
    try:
        results["doctor"] = json.loads((place / "doctor.json").read_text())
    except (OSError, ValueError):
        results["doctor"] = {"hooks": []}
    try:
        results["agreement"] = json.loads((place / "hooks.json").read_text())
    except (OSError, ValueError):
        results["agreement"] = None
    for name in ("zoo", "zoo-tracepoints", "kernel"):
        if (place / f"{name}.xml").is_file():
            results[f"{name}_counts"] = _counts(place / f"{name}.xml")
    scenarios = place / "scenarios.json"
    if scenarios.is_file():
        results["scenarios_counts"] = _verdicts(json.loads(scenarios.read_text()))
    return results


def _counts(file: Path) -> str:
    """`48 passed, 1 skipped` of a JUnit file."""
    suite = ElementTree.parse(file).getroot()
    suite = suite if suite.tag == "testsuite" else suite[0]
    number = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    parts = [f"{passed} passed"]
    parts += [f"{failed} failed"] * bool(failed)
    parts += [f"{number['skipped']} skipped"] * bool(number["skipped"])
    return ", ".join(parts)


def _verdicts(document: Mapping[str, Any]) -> str:
    """`60 of 62 runs held`."""
    runs = document.get("runs", [])
    held = sum(run.get("verdict") == "held" for run in runs)
    return f"{held} of {len(runs)} runs held"


def _tables(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "| row | kernel | machine | bcc | Python |"
    yield "|---|---|---|---|---|"
    for name, each in told.items():
        facts = each["facts"]
        cells = [facts.get(key, "?") for key in ("kernel", "machine", "bcc", "python")]
        yield f"| {' | '.join([name, *cells])} |"
    yield ""
    titles = {step.name: step.title for row in ROWS.values() for step in steps(row)}
    used = [key for key in titles if any(_step(each, key) for each in told.values())]
    yield f"| row | {' | '.join(titles[key] for key in used)} |"
    yield "|---" * (len(used) + 1) + "|"
    for name, each in told.items():
        yield f"| {name} | {' | '.join(_cell(each, key) for key in used)} |"
    yield ""
    facts = list(dict.fromkeys(h["fact"] for e in told.values() for h in e["doctor"]["hooks"]))
    yield f"| row | {' | '.join(facts)} |"
    yield "|---" * (len(facts) + 1) + "|"
    for name, each in told.items():
        hooks = {hook["fact"]: _hook(hook) for hook in each["doctor"]["hooks"]}
        yield f"| {name} | {' | '.join(hooks.get(fact, '') for fact in facts)} |"
    yield from _agreement(told)


def _hook(hook: Mapping[str, Any]) -> str:
    """`release_task (fentry)`: the name, and how a function is hooked."""
    way = next((way for way in ("fentry", "kprobe") if way in hook.get("hook", "")), None)
    return f"{hook['chosen']} ({way})" if way else str(hook["chosen"])


# of tests/oracle/agree.py: the instants that differ by more than two handlers' order
_APART = {
    "reap": "reap",
    "adoption": "reparent",
    "zombie, no signal": "zombie without signal",
    "exit": "exit (the same hook)",
}


def _agreement(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    measured = {name: each["agreement"] for name, each in told.items() if each["agreement"]}
    if not measured:
        return
    yield ""
    columns = [f"{title}: median, p99, max" for title in _APART.values()]
    yield f"| row | hooked by | lives | verdicts that differ | {' | '.join(columns)} |"
    yield "|---" * (4 + len(columns)) + "|"
    for name, each in measured.items():
        for way, found in each["sets"].items():
            cells = [name, way, str(each["lives"]), str(found["different"])]
            for fact in _APART:
                apart = found["apart_us"].get(fact)
                cells.append(
                    f"{apart['median']:.1f}, {apart['p99']:.1f}, {apart['max']:.1f}"
                    if apart
                    else "-"
                )
            yield f"| {' | '.join(cells)} |"


def _step(results: Mapping[str, Any], name: str) -> Optional[Mapping[str, Any]]:
    return next((step for step in results["steps"] if step["name"] == name), None)


def _cell(results: Mapping[str, Any], name: str) -> str:
    step = _step(results, name)
    if step is None:
        return "not reached" if name in results.get("not_reached", []) else "not tried"
    verdict = {0: "ok", 124: "time limit"}.get(step["code"], "FAILED")
    detail = results.get(f"{name}_counts")
    return f"{verdict} ({detail})" if detail else verdict
