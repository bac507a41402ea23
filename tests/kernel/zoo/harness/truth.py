# SPDX-License-Identifier: Apache-2.0
"""What a workload knows itself about its processes, gathered while they live.

A process is named by its *role*, unique in its workload. Whoever learns a fact of it says so on
a board that all the workload's processes inherit; `tell()` merges what was said and prints
it as one line of JSON. Times are CLOCK_MONOTONIC nanoseconds, as brackets [not before, not
after], None where a side is not known.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
import traceback
from typing import Any, Callable, Optional

DEADLINE_S = 20.0
_BRACKETS = ("fork", "death", "reap")
_LISTS = ("exec", "reparents")
BOARD = "ZOO_BOARD"  # by which a stage that was exec'ed finds the board again

now = time.monotonic_ns
Facts = dict[str, Any]


def _open_board() -> int:
    if BOARD in os.environ:
        return int(os.environ[BOARD])
    board = os.memfd_create("zoo-truth", 0)
    fcntl.fcntl(board, fcntl.F_SETFL, os.O_APPEND)  # lines of different writers never mix
    os.set_inheritable(board, True)
    os.environ[BOARD] = str(board)
    return board


_board = _open_board()


def own_pid() -> int:
    """As the namespace /proc was mounted in counts it, which is the observer's."""
    return int(os.readlink("/proc/self"))


def me() -> Facts:
    pid, _, tid = os.readlink("/proc/thread-self").split("/")
    with open("/proc/thread-self/comm", "rb") as comm:
        name = os.fsdecode(comm.read())[:-1]
    return {"pid": int(pid), "tid": int(tid), "comm": name}


def say(role: str, **facts: Any) -> None:
    os.write(_board, json.dumps({"role": role, **facts}).encode() + b"\n")


def _merge(life: Facts, facts: Facts) -> None:
    if life.get("pid", facts.get("pid")) != facts.get("pid", life.get("pid")):
        raise ValueError(f"two processes in the role {facts['role']!r}")
    for name, value in facts.items():
        if name in _BRACKETS:
            low, high = life.get(name, [None, None])
            lows = [each for each in (low, value[0]) if each is not None]
            highs = [each for each in (high, value[1]) if each is not None]
            life[name] = [max(lows, default=None), min(highs, default=None)]
        elif name in _LISTS:
            life[name] = life.get(name, []) + value
        else:
            life[name] = value


def _said() -> dict[str, Facts]:
    lives: dict[str, Facts] = {}
    size = os.fstat(_board).st_size
    for line in os.pread(_board, size, 0).splitlines():
        facts = json.loads(line)
        _merge(lives.setdefault(facts["role"], {}), facts)
    return lives


def known_pids() -> dict[int, str]:
    """Return PID -> role of all processes that have introduced themselves so far."""
    return {life["pid"]: role for role, life in _said().items() if "pid" in life}


def pid_of(role: str) -> int:
    """The PID in the observer's namespace; waits until that process has introduced itself."""
    until(lambda: role in known_pids().values(), f"{role} introduces itself")
    return next(pid for pid, each in known_pids().items() if each == role)


def tell(**more: Any) -> None:
    """Print what was said: {"main": pid, "lives": [one object a role]}."""
    line = json.dumps({"main": own_pid(), "lives": list(_said().values()), **more})
    os.write(1, line.encode() + b"\n")


def unsupported(reason: str) -> None:
    os.write(1, json.dumps({"unsupported": reason}).encode() + b"\n")


def introduce(role: str) -> None:
    """Say which process this is; it says so of itself, since it alone knows all its PIDs."""
    fields = _read("stat").rpartition(")")[2].split()
    facts: Facts = {"pid": own_pid(), "start_ticks": int(fields[19]), "comm": _read("comm")[:-1]}
    facts["pidns"] = {"inum": os.stat("/proc/self/ns/pid").st_ino, "pid": os.getpid()}
    facts["argv"] = _read("cmdline").split("\0")[:-1]
    for line in _read("cgroup").splitlines():
        if line.startswith("0::"):  # the unified hierarchy
            facts["cgroup"] = line[3:]
    say(role, **facts)


def _read(name: str) -> str:
    with open(f"/proc/self/{name}", "rb") as file:
        return os.fsdecode(file.read())


def spawn(role: str, body: Callable[[], Optional[int]], make: Callable[[], int] = os.fork) -> int:
    """Make a child that runs `body` and _exits with what it returned (None: 0); its PID."""
    forker = me()
    low = now()
    pid = make()
    if pid == 0:
        code = 99
        try:
            introduce(role)
            code = body() or 0
        except BaseException:
            traceback.print_exc()
        say(role, death=[now(), None])
        os._exit(code)
    say(role, fork=[low, now()], forker=forker)
    return pid


def kill(role: str, pid: int, number: int = signal.SIGKILL) -> None:
    say(role, death=[now(), None])
    os.kill(pid, number)


def reap(role: str, pid: int, options: int = 0, by: str = "parent", **more: Any) -> int:
    """wait4 for `pid`; its wait status. `by` is what the observer must call us."""
    return reap_by(
        role,
        lambda: os.waitpid(pid, options),
        {"syscall": "wait4", "options": options},
        by,
        **more,
    )


def reap_by(
    role: str, wait: Callable[[], Any], call: Optional[Facts], by: str = "parent", **more: Any
) -> int:
    """Reap by `wait`, which returns (pid, wait status); that status."""
    low = now()
    pid, status = wait()
    high = now()
    if not pid:
        raise RuntimeError(f"{role}: nothing was reaped")
    facts: Facts = {"reap": [low, high], "death": [None, high], "status": status}
    if call is not None:
        facts["reap_call"] = call
    say(role, reaper=me(), reaped_by=by, state="reaped", **{**facts, **more})
    return int(status)


def waitid(role: str, kind: int, target: int, options: int, by: str = "parent") -> int:
    """Reap by waitid; the wait status its result amounts to."""

    def wait() -> Any:
        result = os.waitid(kind, target, options)
        return (result.si_pid, status_of(result.si_code, result.si_status)) if result else (0, 0)

    return reap_by(role, wait, {"syscall": "waitid", "options": options}, by)


def status_of(si_code: int, si_status: int) -> int:
    """The wait status word for what a siginfo says of a death."""
    if si_code == os.CLD_EXITED:
        return si_status << 8
    return si_status | (0x80 if si_code == os.CLD_DUMPED else 0)


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.0005)


def fence() -> None:
    """Return only after every writer of the kernel's tasklist_lock seen so far is through:
    a wait takes that lock. /proc does not, and so can be some microseconds early."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)


def peek(role: str, pid: int) -> None:
    """Wait until our own child is a zombie, and leave it one."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    say(role, death=[None, now()], state="zombie")


def proc_state(pid: int) -> str:
    """The letter in /proc/PID/stat, "" when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until_zombie(pid: int) -> None:
    """Wait until /proc shows `pid` as a zombie, which may be a dead leader with live threads."""
    until(lambda: proc_state(pid) == "Z", f"{pid} is dead")


def thread_lives(tid: int) -> bool:
    """Whether a thread of the calling process is still there."""
    return os.path.exists(f"/proc/self/task/{tid}")


def see_death(role: str, pid: int) -> int:
    """wait4 as a tracer that is not the parent: it returns the status and reaps nothing."""
    _, status = os.waitpid(pid, 0)
    say(role, death=[None, now()])
    return status


def until_gone(role: str, pid: int) -> None:
    """Wait until the kernel has released `pid` without a wait of ours."""
    until(lambda: not proc_state(pid), f"{role} is gone")
    fence()
    high = now()
    say(role, death=[None, high], reap=[None, high], state="reaped")


def until_in_syscall(tid: int, number: int) -> None:
    """Wait until the thread sleeps in syscall `number`."""

    def inside() -> bool:
        with open(f"/proc/{tid}/syscall") as call:
            return call.read().split()[0] == str(number)

    until(inside, f"{tid} is in syscall {number}")


def orphaned(
    role: str, from_: int, to: int, kind: str, while_zombie: bool, since: int, **more: Any
) -> None:
    """Say that `role` was reparented between `since` and now."""
    change = {"from": from_, "to": to, "kind": kind, "while_zombie": while_zombie}
    say(role, reparents=[{**change, "ns": [since, now()], **more}])


class Gate:
    """Where some wait until others open: one `open` lets `count` pass."""

    def __init__(self, *ends: int) -> None:
        """New, or with the `ends` of one that was made before an exec."""
        self._read, self._write = ends or os.pipe()

    def ends(self) -> tuple[int, int]:
        """Its descriptors, made to last over an exec."""
        os.set_inheritable(self._read, True)
        os.set_inheritable(self._write, True)
        return self._read, self._write

    def open(self, count: int = 1) -> None:
        os.write(self._write, b"." * count)

    def wait(self) -> None:
        if not os.read(self._read, 1):
            raise EOFError("gate broken")

    def then(self, code: int) -> Callable[[], int]:
        """Return a body that waits here and then returns `code`."""

        def body() -> int:
            self.wait()
            return code

        return body


class Word(Gate):
    """A gate through which a number is handed."""

    def send(self, number: int) -> None:
        os.write(self._write, number.to_bytes(8, "little"))

    def receive(self) -> int:
        return int.from_bytes(os.read(self._read, 8), "little")


def forever() -> int:
    """A child's body that ends by a signal only."""
    while True:
        signal.pause()


def forever_asleep() -> None:
    """The same for a thread, which gets no signal of its own."""
    threading.Event().wait()


def roles(prefix: str, count: int) -> list[str]:
    return [f"{prefix} {number}" for number in range(1, count + 1)]
