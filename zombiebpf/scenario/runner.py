# SPDX-License-Identifier: Apache-2.0
"""Run scenarios under one observer. The only module of the package that starts processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional, cast

from zombiebpf.command.inherited import InheritedState
from zombiebpf.command.user import User, environment_of
from zombiebpf.errors import UsageError
from zombiebpf.kernel.syscalls import syscall_names
from zombiebpf.model import wire
from zombiebpf.model.events import Wait
from zombiebpf.model.wire import Records
from zombiebpf.observe.command_run import CommandRun
from zombiebpf.observe.rule_files import load_rules
from zombiebpf.observe.selfcheck import start_observer
from zombiebpf.scenario import workload_log
from zombiebpf.scenario.plan import ADOPTER_DELAY, Planned
from zombiebpf.scenario.results import Interpreter, Run, Verdict
from zombiebpf.scenario.verdict import conclude

LIMIT_S = 60.0  # a workload that has not ended by then is killed
LINGER_S = 10.0  # for orphans of the machine's init, which may take its time
OUTPUT_BYTES = 8192  # of what a workload prints, its end

_HERE = Path(__file__).resolve().parent
WORKLOAD_REAPER = _HERE / "workload_reaper.py"
WORKLOAD = _HERE / "workload"
_ASK = "import json, sys; print(json.dumps([sys.executable, list(sys.version_info[:3])]))"


class ScenarioRunner:
    """Runs scenarios under one observer. Use it in a `with` statement."""

    def __init__(
        self,
        inherited: InheritedState,
        user: Optional[User],
        forced: Optional[Mapping[str, str]] = None,
    ) -> None:
        """Attach the observer. Workloads run as `user`; None: as the user of this process."""
        # A workload reads nothing and prints into a file; its reaper may print an error.
        self._inherited = inherited._replace(descriptors=(2,))
        self._user = user
        self._rules = load_rules()
        self._waits: list[Wait] = []
        self.interrupted = False
        self._observer = start_observer(forced, waits=True)

    def __enter__(self) -> ScenarioRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self._observer.close()

    def _keep_waits(self, records: Records) -> None:
        """Keep the Wait events that pass, which no process record has."""
        self._waits += (cast(Wait, event) for event in records.events(wire.WAIT))

    def run(self, planned: Planned) -> Run:
        """Run it once. Raise CommandError if the workload's reaper cannot be started.

        After Ctrl-C `interrupted` is true and the result is FAILED.
        """
        with _files(self._user) as files:
            lost_before = self._observer.lost()
            self._waits.clear()
            with CommandRun(
                self._observer, self._inherited, self._rules, self._keep_waits
            ) as observed:
                observed.run(
                    command(planned, files), self._user, self._environ(planned, files), LINGER_S
                )
                with observed.open() as trace:
                    analysis = trace.analysis()
            lost = {
                cause: count - lost_before.get(cause, 0)
                for cause, count in analysis.meta.lost_by.items()
                if count > lost_before.get(cause, 0)
            }
            meta = replace(analysis.meta, lost_events=sum(lost.values()), lost_by=lost)
            analysis = replace(analysis, meta=meta)
            output = files.read_output()
            try:
                log = workload_log.parse(files.read_log())
            except workload_log.WorkloadLogError as error:
                return self._failed(planned, error.what, output)
        if log.interrupted:
            self.interrupted = True
            return self._failed(planned, "interrupted", output)
        return conclude(planned, analysis, log, list(self._waits), syscall_names(), output)

    def _failed(self, planned: Planned, why: str, output: str) -> Run:
        scenario, interpreter, method, knobs, _ = planned
        return Run(scenario, interpreter, method, knobs, Verdict.FAILED, why, output=output)

    def _environ(self, planned: Planned, files: _Files) -> dict[str, str]:
        environ = environment_of(self._user, self._inherited.environ)
        environ.pop("PYTHONHOME", None)
        path = environ.get("PYTHONPATH")
        knobs = {name: value for name, value in planned.knobs.items() if name != ADOPTER_DELAY}
        environ.update(
            ZOMBIEBPF_MARKS=files.log,
            ZOMBIEBPF_KNOBS=json.dumps(knobs),
            PYTHONPATH=str(WORKLOAD) + (os.pathsep + path if path else ""),
            PYTHONDONTWRITEBYTECODE="1",
        )
        return environ


def command(planned: Planned, files: _Files) -> list[str]:
    """Return the command of the workload's reaper, which starts the workload."""
    python = planned.interpreter.path
    options = ["--limit", str(LIMIT_S), "--output", files.output]
    if planned.scenario.adopter == "init":
        options.append("--init")
    if ADOPTER_DELAY in planned.knobs:
        options += ["--delay", str(planned.knobs[ADOPTER_DELAY])]
    workload = [python, str(planned.scenario.workload)]
    return [python, "-I", "-S", str(WORKLOAD_REAPER), *options, "--", *workload]


def ask(python: str, user: Optional[User], environ: Mapping[str, str]) -> Interpreter:
    """Run the interpreter that `--python` names, as `user`, to learn its version.

    Raise UsageError if it is not one.
    """
    given = environment_of(user, environ)
    given.pop("PYTHONHOME", None)
    found = shutil.which(python, path=given.get("PATH"))
    if found is None:
        raise UsageError(f"--python {python}: no such program", "the path of a Python interpreter")
    found = os.path.abspath(found)
    who: dict[str, Any] = {}
    if user is not None:
        groups = os.getgrouplist(user.name, user.gid)
        who = {"user": user.uid, "group": user.gid, "extra_groups": groups}
    try:
        answer = subprocess.run(
            [found, "-I", "-S", "-c", _ASK],
            env=given,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=True,
            **who,
        )
        _, version = json.loads(answer.stdout)
        return Interpreter(found, tuple(version))
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines() or [str(error)]
        raise UsageError(f"--python {python}: {last[-1]}") from None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--python {python}: {error}") from None


class _Files(NamedTuple):
    """The files that a run writes, in a directory where no other user can replace them.

    They are read through the descriptors that created them, whatever their paths lead to.
    """

    log: str
    output: str
    log_descriptor: int
    output_descriptor: int

    def read_log(self) -> bytes:
        with open(self.log_descriptor, "rb", closefd=False) as file:
            return file.read()

    def read_output(self) -> str:
        size = os.fstat(self.output_descriptor).st_size
        data = os.pread(self.output_descriptor, OUTPUT_BYTES, max(0, size - OUTPUT_BYTES))
        return data.decode("utf-8", "backslashreplace")


@contextmanager
def _files(user: Optional[User]) -> Iterator[_Files]:
    with tempfile.TemporaryDirectory(prefix="zombiebpf-") as directory:
        os.chmod(directory, 0o711)
        paths = [os.path.join(directory, name) for name in (("log", "output"))]
        descriptors = []
        try:
            for path in paths:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                descriptors.append(descriptor)
                if user is not None:
                    os.fchown(descriptor, user.uid, user.gid)
            yield _Files(paths[0], paths[1], descriptors[0], descriptors[1])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
