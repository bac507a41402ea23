# SPDX-License-Identifier: Apache-2.0
"""The scenarios of a directory: NAME.yaml beside NAME.py, built in or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from zombiebpf.errors import UsageError, ZombiebpfError
from zombiebpf.scenario.expression import near
from zombiebpf.scenario.nodes import ScenarioError
from zombiebpf.scenario.schema import Scenario, read

ALL = "all"
_PACKAGE = Path(__file__).resolve().parent.parent


def built_in() -> Path:
    """Return the directory of the built-in scenarios: in the package, or beside it in a checkout.

    Raise ZombiebpfError if it is missing.
    """
    for place in (_PACKAGE / "scenarios", _PACKAGE.parent / "scenarios"):
        if place.is_dir():
            return place
    raise ZombiebpfError("the scenarios are missing", "install zombiebpf again")


def names(directory: Path) -> list[str]:
    """Return the names of the scenarios in a directory, sorted."""
    return sorted(path.stem for path in directory.glob("*.yaml"))


def load(name: str, directory: Path) -> Scenario:
    """Read one scenario. Raise ScenarioError if it is invalid or its workload is missing."""
    path = directory / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    workload = path.with_suffix(".py")
    if not workload.is_file():
        raise ScenarioError(f"{path}:1: its workload is missing", f"a program {workload}")
    return read(text, _shown(path), workload.resolve())


def choose(wanted: Sequence[str], directory: Optional[Path] = None) -> list[Scenario]:
    """Load scenarios by name, in the given order; `all` means every one.

    `directory` None means the built-in ones. Raise UsageError if a name is unknown.
    """
    place = built_in() if directory is None else directory
    if not place.is_dir():
        raise UsageError(f"{place}: no such directory")
    known = names(place)
    chosen: list[str] = []
    for name in wanted:
        if name != ALL and name not in known:
            raise UsageError(f"no scenario {name!r} in {_shown(place)}", near(name, [*known, ALL]))
        chosen += known if name == ALL else [name]
    if not chosen:
        raise UsageError(f"no scenario in {_shown(place)}", "NAME.yaml beside NAME.py")
    return [load(name, place) for name in dict.fromkeys(chosen)]


def _shown(path: Path) -> str:
    """Return the path as typed from the current directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
