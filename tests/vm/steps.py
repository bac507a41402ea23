# SPDX-License-Identifier: Apache-2.0
"""What is done in each VM, in this order. Emulated, the first start of the observer takes a
minute or two (nearly all of it bcc's compiler) and each later one many seconds, so the steps are
those that cost few starts."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.vm.rows import Row

PROGRAM = ".venv/bin/zombiebpf"
OUT = "/run/out"
_PYTEST = ".venv/bin/python -m pytest -p no:cacheprovider -v"
_ZOO = " ".join(
    f"tests/kernel/test_zoo.py::{name}"
    for name in (
        "test_case",
        "test_every_life_once_and_no_other",
        "test_nothing_was_lost_and_all_is_within_the_observation",
        "test_the_command_itself",
    )
)
_TRACEPOINTS = "zombie=sched_switch reparent=sched_switch reap=kmem_cache_free"


class Step(NamedTuple):
    """One command in the VM. `code` 0: it went as it should."""

    name: str
    title: str  # the column of the table
    command: str
    limit_s: int
    in_ci: bool = False  # among those that fit in ten minutes
    whole: bool = False  # only with --whole
    kernel_arguments: tuple[str, ...] = ()  # others than the step before has: a boot of its own

    def job(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "command": self.command,
            "limit_s": self.limit_s,
            "env": {"ZOMBIEBPF_PATIENCE": "8"},
            "tail": 30,
        }


def steps(row: Row) -> list[Step]:
    """All of a row."""
    pythons = " ".join(f"--python {python}" for python in row.pythons)
    found = [
        Step("doctor", "doctor", f"{PROGRAM} doctor --format json > {OUT}/doctor.json; "
             f"c=$?; grep '\"found\"' {OUT}/doctor.json; exit $c", 600, in_ci=True),
        Step("stacks", "Python's stacks",
             f".venv/bin/python -m tests.stacks --only {pythons}", 2400, in_ci=True),
        Step("zoo", "kernel tests (the zoo)",
             f"{_PYTEST} --junitxml={OUT}/zoo.xml {_ZOO}", 2400, in_ci=True),
        Step("zoo-tracepoints", "the zoo on tracepoints",
             f"ZOMBIEBPF_HOOKS='{_TRACEPOINTS}' "
             f"{_PYTEST} --junitxml={OUT}/zoo-tracepoints.xml {_ZOO}", 2400),
        Step("hooks", "hook variants agree", ".venv/bin/python -m tests.oracle hooks --seed 7 "
             f"--processes 400 --json {OUT}/hooks.json", 1800),
        Step("scenarios", "scenarios", f"{PROGRAM} scenario run all -u root "
             f"--report {OUT}/scenarios.json --report {OUT}/scenarios.txt; c=$?; "
             f"tail -n 20 {OUT}/scenarios.txt; exit $c", 2400),
        Step("attach", "kernel tests (attach, namespaces, the wire)",
             f"{_PYTEST} --junitxml={OUT}/attach.xml tests/kernel/test_wire.py "
             "tests/kernel/test_namespace.py tests/kernel/test_selfcheck.py::"
             "test_all_that_a_task_tells_of_itself_by_kprobes "
             "tests/kernel/test_attach.py::test_zombies_that_existed_before "
             "tests/kernel/test_attach_race.py::test_who_dies_and_forks_while_it_lasts", 2400),
        Step("oracle", "oracle", ".venv/bin/python -m tests.oracle --seed 7 --processes 400 "
             "--strace-processes 60", 2400),
        Step("packages", "packages", "sh tests/vm/guest/packages.sh", 900),
        Step("hardening", "hardening", "sh tests/vm/guest/hardening.sh sysctl", 900),
        Step("kernel", "all kernel tests",
             f"{_PYTEST} --junitxml={OUT}/kernel.xml tests/kernel", 6 * 3600, whole=True),
        *(Step(f"lockdown-{mode}", f"lockdown={mode}", f"sh tests/vm/guest/hardening.sh {mode}",
               900, kernel_arguments=(f"lockdown={mode}",))
          for mode in ("integrity", "confidentiality")),
    ]  # fmt: skip
    return [step for step in found if step.name != "zoo-tracepoints" or not row.preempts]
