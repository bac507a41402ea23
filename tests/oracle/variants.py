# SPDX-License-Identifier: Apache-2.0
"""Tracepoints, fentry and kprobes observe the same random trees at once: do they agree?

    sudo python3 -m tests.oracle hooks --seed 7 --processes 400

Exit status: 0 when they do, 1 when not, 2 when it could not run, for one when this kernel lets
none of its functions be hooked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.oracle.agree import Agreement, compare
from tests.oracle.run import TREES
from zombiebpf.bpf.functions import ATTACH_KINDS, FENTRY
from zombiebpf.errors import ZombiebpfError
from zombiebpf.kernel import hooks, machine
from zombiebpf.kernel.variants import FACTS, VARIANTS
from zombiebpf.model.life import Life
from zombiebpf.model.wire import LOST_STACKS, NOT_RUN
from zombiebpf.observe.pipeline import Pipeline
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.observe.selfcheck import start_observer
from zombiebpf.observe.sinks import MemorySink

TRACEPOINTS = "tracepoints"
ON_TRACEPOINTS = dict.fromkeys(FACTS, "tracepoint")
LOST_PREEMPTED = (NOT_RUN, LOST_STACKS)
PAUSE_S = 0.01
PATIENCE_S = 600.0  # for the workload
GRACE_S = 10.0  # for what comes late
SHOWN = 20


class Failed(Exception):
    """The comparison could not be made."""


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--processes", type=int, default=1000, help="forks")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--at-once", type=int, default=4, help="trees that grow at a time")
    parser.add_argument("--json", type=Path, help="the numbers, for the table of docs/kernels.md")
    given = parser.parse_args(arguments)
    print(f"hooks: seed {given.seed}", flush=True)
    try:
        seen, left_out = observe(sets(), given.seed, given.processes, given.at_once)
    except (Failed, ZombiebpfError, OSError) as error:
        print(f"hooks: {error}", file=sys.stderr)
        return 2
    base = seen.pop(TRACEPOINTS)
    found = {
        name: compare(base, lives, True, bool(left_out[TRACEPOINTS] or left_out[name]))
        for name, lives in seen.items()
    }
    if len(seen) == 2:
        lossy = any(left_out[name] for name in seen)
        one, other = seen.values()
        found[" and ".join(seen)] = compare(one, other, ordered=False, lossy=lossy)
    for name, agreement in found.items():
        print(f"\n{name}, {len(base)} lives\n{agreement.table()}")
        for line in agreement.different[:SHOWN]:
            print(f"DIFFERENT {line}")
    if given.json is not None:
        summary = document(len(base), found, left_out)
        given.json.write_text(json.dumps(summary, indent=1) + "\n")
    different = sum(len(each.different) for each in found.values())
    print(f"\nhooks: {len(base)} lives, {different or 'nothing'} different")
    return int(different > 0)


def sets() -> dict[str, Mapping[str, str]]:
    """Name -> the values of --hook, of each set that this kernel offers."""
    machine.require_privilege()
    kernel = machine.ask_kernel(machine.read_btf().btf)
    found: dict[str, Mapping[str, str]] = {TRACEPOINTS: ON_TRACEPOINTS}
    began = time.monotonic()
    for kind in ATTACH_KINDS:
        forced = {}
        for variant in VARIANTS:
            if not variant.functions or kind not in variant.attach_kinds:
                continue
            _, obstacle = hooks.check_variant(kernel, variant, [kind])
            if obstacle:
                print(f"hooks: {obstacle}")
            else:
                forced[variant.fact] = kind
        if forced:
            found[kind] = {**ON_TRACEPOINTS, **forced}
    print(f"hooks: the kernel was asked in {time.monotonic() - began:.3f} s")
    if len(found) == 1:
        raise Failed("this kernel lets none of its functions be hooked")
    return found


def observe(
    wanted: Mapping[str, Mapping[str, str]], seed: int, processes: int, at_once: int
) -> tuple[dict[str, list[Life]], dict[str, int]]:
    """All sets look at one run of the workload: what each tells, and what it has lost because the
    kernel preempts tasks in its programs (their runs for others, and their stacks). Failed, if it
    fails or something is lost otherwise."""
    preempted = machine.ask_kernel(machine.read_btf().btf).preemption
    sinks = {name: MemorySink() for name in wanted}
    with ExitStack() as stack:
        observers = {
            name: stack.enter_context(start_observer(each)) for name, each in wanted.items()
        }
        for name, each in observers.items():
            each.expect_interpreters(os.environ.get("PATH", "").split(":"), sys.executable)
            print(f"{name}: {', '.join(each.hooks.values())}", flush=True)
        rules = load_rules()
        pipelines = [Pipeline(observers[name], sinks[name], rules) for name in wanted]
        with ExitStack() as following:
            for each in observers.values():
                following.enter_context(each.following_forks())
            workload = subprocess.Popen(
                [sys.executable, str(TREES), "--seed", str(seed),
                 "--processes", str(processes), "--at-once", str(at_once), "--for-init", "3"],
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        status = _drain(workload, pipelines)
        if status != 0:
            raise Failed(f"the workload ended with {status}")
        left_out = {}
        for name, each in observers.items():
            lost = {cause: count for cause, count in each.lost().items() if count}
            may_be = {TRACEPOINTS: preempted.tracepoints, FENTRY: preempted.fentry}
            seen = [lost.pop(cause, 0) for cause in LOST_PREEMPTED] if may_be.get(name) else [0]
            if lost:
                raise Failed(f"{name}: events were lost: {lost}")
            left_out[name] = sum(seen)
            print(f"{name}: {left_out[name]} lost by preemption", flush=True)
        for pipeline in pipelines:
            pipeline.finish()
    return {name: sink.lives for name, sink in sinks.items()}, left_out


def _drain(workload: subprocess.Popen[bytes], pipelines: Sequence[Pipeline]) -> int:
    """Read until all have seen all; the workload's exit status."""
    deadline = time.monotonic() + PATIENCE_S
    while workload.poll() is None:
        if time.monotonic() > deadline:
            workload.kill()
            raise Failed("the workload does not end")
        if not _drain_once(pipelines):
            time.sleep(PAUSE_S)
    deadline = time.monotonic() + GRACE_S
    while True:
        any_read = _drain_once(pipelines)
        if not any_read and (
            all(not each.alive for each in pipelines) or time.monotonic() > deadline
        ):
            return workload.returncode
        if not any_read:
            time.sleep(PAUSE_S)


def _drain_once(pipelines: Sequence[Pipeline]) -> bool:
    """Whether there was anything for any of them."""
    return sum(each.drain() for each in pipelines) > 0


def document(
    lives: int, found: Mapping[str, Agreement], left_out: Mapping[str, int]
) -> dict[str, Any]:
    """What tests/vm/results.py reads."""
    return {
        "lives": lives,
        "left_out": {name: count for name, count in left_out.items() if count},
        "sets": {
            name: {
                "different": len(each.different),
                "by_one": sum(each.by_one.values()),
                "apart_us": {fact: asdict(apart) for fact, apart in each.apart.items()},
            }
            for name, each in found.items()
        },
    }
