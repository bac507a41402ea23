# SPDX-License-Identifier: Apache-2.0
"""Mutation tests of the pure packages: change one thing in a function, see a unit test fail.

    python -m tools.mutants [--sample N] [--minimum PERCENT] [PATTERN...]

mutmut makes the mutants and runs the tests that reach them ([tool.mutmut] in
pyproject.toml). PATTERN chooses mutants by name, such as `zombiebpf.wording.*`; --sample
takes N of them by chance, the same for one commit, and judges their total, since few fall on
a package. Mutants that survive are written to build/mutants.txt with their changes.
tests/README.md says which are left, and why.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SURVIVORS = ROOT / "build" / "mutants.txt"
MUTMUT = (sys.executable, "-m", "mutmut")

# Exit codes that mutmut keeps: those of pytest, and its own.
SURVIVED, NO_TESTS = 0, 33


def results() -> dict[str, int]:
    """Return mutant -> exit code of its tests, of all mutants that were run."""
    found = {}
    for file in (ROOT / "mutants").rglob("*.meta"):
        codes = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
        found.update({name: -1 if code is None else code for name, code in codes.items()})
    return found


def package_of(mutant: str) -> str:
    """Return `lifecycle` for `zombiebpf.lifecycle.parents.x_f__mutmut_1`."""
    return mutant.split(".")[1]


def mutmut(*names: str) -> None:
    """Run mutants; all that have no result yet if none is named."""
    subprocess.run([*MUTMUT, "run", *names], cwd=ROOT, check=False)


def chosen(patterns: Sequence[str], sample: int) -> list[str]:
    """Return the names of mutants to run; mutmut makes them before it looks for the name."""
    subprocess.run(
        [*MUTMUT, "run", "none"], cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL
    )
    names = sorted(
        name for name in results() if any(fnmatch.fnmatch(name, each) for each in patterns)
    )
    if sample and sample < len(names):
        names = random.Random(_commit()).sample(names, sample)
    return names


def _commit() -> str:
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return git.stdout.strip()


def table(found: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """Yield (package, mutants, killed) of each package, and of all."""
    count = Counter(map(package_of, found))
    killed = Counter(
        package_of(name) for name, code in found.items() if code not in (SURVIVED, NO_TESTS)
    )
    for package in sorted(count):
        yield package, count[package], killed[package]
    yield "all", sum(count.values()), sum(killed.values())


def write_survivors(names: Sequence[str]) -> None:
    """Write the change of each mutant that no test has found."""
    SURVIVORS.parent.mkdir(exist_ok=True)
    with SURVIVORS.open("w", encoding="utf-8") as out:
        for name in names:
            shown = subprocess.run(
                [*MUTMUT, "show", name], cwd=ROOT, capture_output=True, text=True
            )
            out.write(f"# {name}\n{shown.stdout}\n")


def main() -> None:
    """Run mutants and print the table. Exit with 1 if too few are killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    parser.add_argument("--minimum", type=float, default=85.0, metavar="PERCENT")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    options = parser.parse_args()
    names: list[str] = []
    if options.sample or options.patterns:
        names = chosen(options.patterns or ["*"], options.sample)
    mutmut(*names)
    found = {
        name: code
        for name, code in results().items()
        if code != -1 and (not names or name in set(names))
    }
    if not found:
        sys.exit("mutants: no mutant was run")
    write_survivors([name for name, code in found.items() if code in (SURVIVED, NO_TESTS)])
    print(f"\n{'package':<12} {'mutants':>8} {'killed':>8}")
    low = []
    for package, count, killed in table(found):
        percent = 100 * killed / count
        print(f"{package:<12} {count:>8} {killed:>8} {percent:>6.1f} %")
        judged = package == "all" if options.sample else package != "all"
        if judged and percent < options.minimum:
            low.append(package)
    print(f"survivors with their changes: {SURVIVORS.relative_to(ROOT)}")
    if low:
        sys.exit(f"mutants: below {options.minimum:g} %: {', '.join(low)}")


if __name__ == "__main__":
    main()
