# SPDX-License-Identifier: Apache-2.0
"""Each kind of attribution, made to happen by the real library: which call, which line, who.

The applications of apps/ say themselves, in comments, what their lines do:

    # forks                      a process is forked from this line of the user's
    # reaps: KIND, KIND          this line reaps, and the call is of that kind
    # reaps, perhaps: KIND       it may
    # reaps somewhere: KIND      by threads or processes with no line of the user's

All run under one observer; `pytest -k NAME` runs one alone.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import pytest

from tests.kernel.running import Observation

APPS = Path(__file__).parent / "apps"
PYTHON = Path(__file__).parents[2] / "build" / "apps" / "bin" / "python"
RUN_APPS = APPS / "runner" / "run_apps.py"
CASES = sorted(path.stem for path in APPS.glob("*.py") if path.stem != "until")
NOT_PYTHON = "not Python"  # it has a test of its own
Facts = Mapping[str, Any]
Reap = tuple[str, Optional[int]]  # the call's kind, the user's line


class Said(NamedTuple):
    """What an application's comments say."""

    forks: set[int]
    must: set[Reap]
    may: set[Reap]


def said(path: Path) -> Said:
    forks: set[int] = set()
    must: set[Reap] = set()
    may: set[Reap] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        _, _, comment = line.partition("#")
        for part in re.split("[;#]", comment):
            part = part.strip()
            if part == "forks":
                forks.add(number)
            match = re.fullmatch("reaps(|, perhaps| somewhere): (.+)", part)
            if match:
                where = None if match[1] == " somewhere" else number
                into = may if match[1] == ", perhaps" else must
                into.update((kind, where) for kind in match[2].split(", "))
    return Said(forks, must, may)


class AppsRun:
    """One observed run of applications."""

    def __init__(self, observed: Observation) -> None:
        self.processes: list[Facts] = observed.document["processes"]
        self.meta: Facts = observed.document["meta"]
        try:
            self.apps: Facts = json.loads(observed.stdout)
        except ValueError:
            pytest.fail(f"the run ended with {observed.returncode}:\n{observed.stderr}")

    def descendants(self, pid: int) -> list[Facts]:
        """All that the application and its descendants forked."""
        family, found = {pid}, []
        for process in self.processes:  # by their forks
            forker = process["forker"]
            if forker is not None and forker["pid"] in family:
                family.add(process["pid"])
                found.append(process)
        return found


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, observation: Callable[..., Observation]) -> AppsRun:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} is missing: try `tools/apps.sh`")
    chosen = [
        str(APPS / f"{item.callspec.params['app']}.py")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        if "app" in item.callspec.params
    ]
    return AppsRun(observation(str(PYTHON), str(RUN_APPS), *chosen))


@pytest.mark.parametrize("app", CASES)
def test_each_reap_has_its_call_and_line(app: str, run: AppsRun) -> None:
    path = APPS / f"{app}.py"
    ran = run.apps[str(path)]
    assert ran["status"] == 0, ran["output"]
    comments = said(path)
    forks: set[int] = set()
    reaps: dict[Reap, list[Facts]] = {}
    for process in run.descendants(ran["pid"]):
        forks |= {line} if (line := line_in(path, process["fork_site"])) else set()
        if process["orphaned"] or process["reaped_by"] == "kernel":
            continue  # what it was left to is none of the application's
        call = process["reap_call"] or {"kind": None, "site": None}
        reaps.setdefault((call["kind"], line_in(path, call["site"])), []).append(process)
    missing = sorted(map(str, comments.must - set(reaps)))
    unexpected = {
        reap: reaped
        for reap, reaped in reaps.items()
        if reap not in comments.must | comments.may and reap[0] != NOT_PYTHON
    }
    if missing or unexpected:
        pytest.fail(f"missing: {missing}\nunexpected:\n{explained(unexpected)}\n{ran['output']}")
    assert forks == comments.forks
    for process in itertools.chain(*reaps.values()):
        assert process["reaper"]["pid"] == process["forker"]["pid"], process


def line_in(path: Path, site: Optional[Facts]) -> Optional[int]:
    """The line, if it is the application's."""
    return site["line"] if site is not None and site["file"] == str(path) else None


def explained(reaps: Mapping[Reap, list[Facts]]) -> str:
    """With one process each."""
    lines = []
    for (kind, line), processes in reaps.items():
        process = processes[0]
        call = process["reap_call"] or {}
        lines.append(f"{kind} at line {line}: {len(processes)}, such as {process['argv']}")
        lines += [f"    unseen: {process['unseen']}, {call.get('stack_problem')}"]
        for frame in call.get("stack") or ():
            lines.append(f"    {frame['function']} {frame['file']}:{frame['line']}")
    return "\n".join(lines)


def test_kernel_and_programs_that_are_no_python(run: AppsRun) -> None:
    ran = run.apps.get(str(APPS / "waits.py"))
    if ran is None:
        pytest.skip("waits.py was not chosen by -k")
    family = run.descendants(ran["pid"])
    by_kernel = [each for each in family if each["reaped_by"] == "kernel"]
    assert len(by_kernel) == 1
    assert (by_kernel[0]["reaper"], by_kernel[0]["reap_call"]) == (None, None)
    by_shell = [each for each in family if (each["reaper"] or {}).get("comm") == "sh"]
    assert by_shell
    assert {each["reap_call"]["kind"] for each in by_shell} == {NOT_PYTHON}


def test_nothing_was_lost(run: AppsRun) -> None:
    assert run.meta["lost_events"] == 0
