# SPDX-License-Identifier: Apache-2.0
"""Kernel calls that the standard library does not have, and every way to fork and to reap."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import time
import traceback
from typing import Callable, NoReturn, Optional

import workload_log

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36  # linux/prctl.h
CLONE_PARENT = 0x8000  # linux/sched.h
WALL = 0x40000000  # linux/wait.h: children with any exit signal
SA_NOCLDWAIT = 2  # asm-generic/signal-defs.h
_ARM_NUMBERS = (220, 93)
_CLONE, _EXIT = _ARM_NUMBERS if os.uname().machine == "aarch64" else (56, 60)

_libc = ctypes.CDLL(None, use_errno=True)
_libc_with_gil = ctypes.PyDLL(None, use_errno=True)


class _Sigaction(ctypes.Structure):  # glibc's, not the kernel's
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def prctl(option: int, value: int) -> None:
    """prctl(2); OSError if it fails."""
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def no_zombies() -> None:
    """SIGCHLD stays SIG_DFL, with SA_NOCLDWAIT: the kernel reaps the children."""
    action = _Sigaction(flags=SA_NOCLDWAIT)
    if _libc.sigaction(signal.SIGCHLD, ctypes.byref(action), None) != 0:
        raise OSError(ctypes.get_errno(), "sigaction")


def exit_thread() -> None:
    """exit(2) of the calling thread only: a leader that dies before its threads.

    CDLL lets the GIL go before it calls, so that the other threads live on.
    """
    _libc.syscall(ctypes.c_long(_EXIT), ctypes.c_long(0))


def crash() -> None:
    """A real SIGSEGV (si_code 1, as a child's death has), with no core left behind."""
    prctl(PR_SET_DUMPABLE, 0)
    ctypes.string_at(0)


def fork(body: Callable[[], object], how: str = "fork") -> int:
    """A child that runs `body` and ends; writes itself into the book."""
    began = time.monotonic_ns()
    pid = os.fork()
    if pid == 0:
        _live(body)
    workload_log.forked(began, pid, how)
    return pid


def clone(flags: int, exit_signal: int, body: Callable[[], object], how: str) -> int:
    """clone(2) without glibc; only for a process with one thread.

    PyDLL keeps the GIL, so that the child, a copy of this thread, has it too.
    """
    began = time.monotonic_ns()
    words = [ctypes.c_long(word) for word in (_CLONE, flags | exit_signal, 0, 0, 0, 0)]
    pid = int(_libc_with_gil.syscall(*words))
    if pid == 0:
        _live(body)
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    workload_log.forked(began, pid, how)
    return pid


def posix_spawn(path: str) -> int:
    """vfork and exec in one, as glibc's posix_spawn does it."""
    began = time.monotonic_ns()
    pid = os.posix_spawn(path, [path], {})
    workload_log.forked(began, pid, "posix_spawn")
    return pid


def _live(body: Callable[[], object]) -> NoReturn:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent's autoreap is inherited
        body()
        os._exit(0)
    except BaseException:
        workload_log.failed(traceback.format_exc())
    finally:
        os._exit(70)


def status_word(code: int, status: int) -> int:
    """waitid's si_code and si_status as the word wait4 gives."""
    if code == os.CLD_EXITED:
        return status << 8
    return status | (0x80 if code == os.CLD_DUMPED else 0)


def _by_waitpid(pid: int, rng: random.Random) -> int:
    return os.waitpid(pid, WALL)[1]


def _by_waitid(pid: int, rng: random.Random) -> int:
    result = os.waitid(os.P_PID, pid, os.WEXITED | WALL)
    assert result is not None
    return status_word(result.si_code, result.si_status)


def _by_pidfd(pid: int, rng: random.Random) -> int:
    if not hasattr(os, "pidfd_open"):
        return _by_waitid(pid, rng)
    fd = os.pidfd_open(pid)
    try:
        result = os.waitid(os.P_PIDFD, fd, os.WEXITED | WALL)
    finally:
        os.close(fd)
    assert result is not None
    return status_word(result.si_code, result.si_status)


def _by_polling(pid: int, rng: random.Random) -> int:
    while True:
        done, status = os.waitpid(pid, os.WNOHANG | WALL)
        if done:
            return status
        time.sleep(rng.uniform(0.0001, 0.001))


def _after_a_peek(pid: int, rng: random.Random) -> int:
    zombie(pid)
    time.sleep(rng.uniform(0, 0.003))
    return os.wait4(pid, WALL)[1]


REAPERS: dict[str, Callable[[int, random.Random], int]] = {
    "waitpid": _by_waitpid,
    "waitid": _by_waitid,
    "pidfd": _by_pidfd,
    "polling": _by_polling,
    "peek": _after_a_peek,
}


def zombie(pid: int) -> None:
    """Return when `pid` is a zombie, and leave it one (WNOWAIT)."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | WALL)


def reap(pid: int, rng: random.Random) -> None:
    """Reap one child in a random way."""
    how = rng.choice(sorted(REAPERS))
    began = time.monotonic_ns()
    workload_log.waited(began, pid, REAPERS[how](pid, rng), how)


def reap_any(options: int = 0) -> Optional[int]:
    """Reap any child: its PID; 0 if none has ended yet (WNOHANG), None if none is left."""
    began = time.monotonic_ns()
    try:
        pid, status = os.waitpid(-1, WALL | options)
    except ChildProcessError:
        return None
    if pid:
        workload_log.waited(began, pid, status, "any")
    return pid


def reap_all() -> None:
    """Reap until no child is left; under autoreap: wait until the kernel has reaped them."""
    while reap_any() is not None:
        pass


def orphaned(parent: int, deadline_s: float = 60) -> None:
    """Return when `parent` has died and another process has adopted the caller."""
    deadline = time.monotonic() + deadline_s
    while os.getppid() == parent:
        if time.monotonic() > deadline:
            raise TimeoutError(f"parent {parent} does not die")
        time.sleep(0.0003)
