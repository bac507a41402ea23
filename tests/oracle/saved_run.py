# SPDX-License-Identifier: Apache-2.0
"""One run of everything, as one file: evidence to look into, and to compare once more."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from tests.oracle.bpftrace import Death
from tests.oracle.ftrace import Brackets
from tests.oracle.ftrace_lives import Life


class Run(NamedTuple):
    """What zombiebpf, the workload, ftrace and bpftrace say of the same processes."""

    document: dict[str, Any]
    book: dict[str, Any]
    lives: list[Life]
    deaths: list[Death]
    brackets: Brackets

    def save(self, path: Path) -> None:
        """As JSON."""
        pids = {life.pid for life in self.lives}
        value = {
            "document": self.document,
            "book": self.book,
            "lives": [dataclasses.asdict(life) for life in self.lives],
            "deaths": [death for death in self.deaths if death.pid in pids],
            "until_ns": list(self.brackets.until_ns.items()),
            "claimed": sorted(self.brackets.claimed),
        }
        path.write_text(json.dumps(value), encoding="utf-8")


def load(path: Path) -> Run:
    """What `save` wrote. ValueError or KeyError if it is something else."""
    value = json.loads(path.read_text(encoding="utf-8"))
    lives = [Life(**each) for each in value["lives"]]
    deaths = [Death(*each) for each in value["deaths"]]
    brackets = Brackets(dict(value["until_ns"]), set(value["claimed"]))
    return Run(value["document"], value["book"], lives, deaths, brackets)
