# SPDX-License-Identifier: Apache-2.0
"""Run scenarios under one observer: the only part of the package that is not pure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Optional

from zombiebpf.errors import UsageError
from zombiebpf.events import Event, Wait
from zombiebpf.inheritance import Inheritance
from zombiebpf.kernel.calls import syscall_names
from zombiebpf.kernel.observer import Observer
from zombiebpf.observe import CommandRun
from zombiebpf.scenario import marks
from zombiebpf.scenario.plan import ADOPTER_DELAY, Planned
from zombiebpf.scenario.results import Interpreter, Run, Verdict
from zombiebpf.scenario.verdict import conclude
from zombiebpf.user import User, environment_of

LIMIT_S = 60.0  # a workload that has not ended by then is killed
LINGER_S = 10.0  # for orphans of the machine's init, which may take its time
OUTPUT_BYTES = 8192  # of what a workload prints, its end

_HERE = Path(__file__).resolve().parent
KEEPER = _HERE / "keeper.py"
WORKLOAD = _HERE / "workload"
_ASK = "import json, sys; print(json.dumps([sys.executable, list(sys.version_info[:3])]))"


class WaitKeepingObserver(Observer):
    """Keeps the Wait events that pass, which a life does not."""

    def __init__(self, forced: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(forced, waits=True)
        self.waits: list[Wait] = []

    def read(self) -> list[Event]:
        events = super().read()
        self.waits += [event for event in events if isinstance(event, Wait)]
        return events


class Stage:
    """A context manager: within it runs can be made, as `user` (None: as we are)."""

    def __init__(
        self,
        inherited: Inheritance,
        user: Optional[User],
        forced: Optional[Mapping[str, str]] = None,
    ) -> None:
        # a workload reads nothing and prints into a file; the keeper may have to complain
        self._inherited = inherited._replace(descriptors=(2,))
        self._user = user
        self._observer = WaitKeepingObserver(forced)
        self.interrupted = False

    def __enter__(self) -> Stage:
        self._observer.__enter__()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._observer.__exit__(kind, error, trace)

    def run(self, planned: Planned) -> Run:
        """Run it once. CommandError if not even the keeper starts.

        After Ctrl-C `interrupted` is true, and what is returned says so.
        """
        with _files(self._user) as files:
            lost_before = self._observer.lost()
            self._observer.waits.clear()
            observed = CommandRun(self._observer, self._inherited)
            analysis = observed.run(
                command(planned, files), self._user, self._environ(planned, files), LINGER_S
            )
            lost = {
                cause: count - lost_before.get(cause, 0)
                for cause, count in analysis.meta.lost_by.items()
                if count > lost_before.get(cause, 0)
            }
            meta = replace(analysis.meta, lost_events=sum(lost.values()), lost_by=lost)
            analysis = replace(analysis, meta=meta)
            output = files.read_output()
            try:
                told = marks.parse(files.read_marks())
            except marks.MarksError as error:
                return self._failed(planned, error.what, output)
        if told.interrupted:
            self.interrupted = True
            return self._failed(planned, "interrupted", output)
        return conclude(
            planned.scenario,
            planned.interpreter,
            planned.start_method,
            planned.knobs,
            analysis,
            told,
            list(self._observer.waits),
            syscall_names(),
            output,
        )

    def _failed(self, planned: Planned, why: str, output: str) -> Run:
        scenario, interpreter, method, knobs, _ = planned
        return Run(scenario, interpreter, method, knobs, Verdict.FAILED, why, output=output)

    def _environ(self, planned: Planned, files: _Files) -> dict[str, str]:
        environ = environment_of(self._user, self._inherited.environ)
        environ.pop("PYTHONHOME", None)
        path = environ.get("PYTHONPATH")
        knobs = {name: value for name, value in planned.knobs.items() if name != ADOPTER_DELAY}
        environ.update(
            ZOMBIEBPF_MARKS=files.marks,
            ZOMBIEBPF_KNOBS=json.dumps(knobs),
            PYTHONPATH=str(WORKLOAD) + (os.pathsep + path if path else ""),
            PYTHONDONTWRITEBYTECODE="1",
        )
        return environ


def command(planned: Planned, files: _Files) -> list[str]:
    """The keeper's arguments; it starts the workload."""
    python = planned.interpreter.path
    options = ["--limit", str(LIMIT_S), "--output", files.output]
    if planned.scenario.adopter == "init":
        options.append("--init")
    if ADOPTER_DELAY in planned.knobs:
        options += ["--delay", str(planned.knobs[ADOPTER_DELAY])]
    workload = [python, str(planned.scenario.workload)]
    return [python, "-I", "-S", str(KEEPER), *options, "--", *workload]


def ask(python: str, user: Optional[User], environ: Mapping[str, str]) -> Interpreter:
    """What `--python` names, asked as the user whose it is. UsageError if it is none."""
    given = environment_of(user, environ)
    given.pop("PYTHONHOME", None)
    found = shutil.which(python, path=given.get("PATH"))
    if found is None:
        raise UsageError(f"--python {python}: no such program", "the path of a Python interpreter")
    found = os.path.abspath(found)
    who: dict[str, Any] = {}
    if user is not None:
        who = {"user": user.uid, "group": user.gid, "extra_groups": _groups(user)}
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


def default_python() -> str:
    """The one that runs us."""
    return sys.executable


def _groups(user: User) -> Sequence[int]:
    return os.getgrouplist(user.name, user.gid)


class _Files(NamedTuple):
    """What a run writes. The directory is ours, so that nobody can put anything else there;
    what is read is what we opened, whatever its name stands for by then."""

    marks: str
    output: str
    marks_descriptor: int
    output_descriptor: int

    def read_marks(self) -> bytes:
        with open(self.marks_descriptor, "rb", closefd=False) as file:
            return file.read()

    def read_output(self) -> str:
        size = os.fstat(self.output_descriptor).st_size
        data = os.pread(self.output_descriptor, OUTPUT_BYTES, max(0, size - OUTPUT_BYTES))
        return data.decode("utf-8", "backslashreplace")


@contextmanager
def _files(user: Optional[User]) -> Iterator[_Files]:
    with tempfile.TemporaryDirectory(prefix="zombiebpf-") as directory:
        os.chmod(directory, 0o711)
        paths = [os.path.join(directory, name) for name in ("marks", "output")]
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
