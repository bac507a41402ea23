# SPDX-License-Identifier: Apache-2.0
"""What a workload knows itself: its Python stack at each fork and at each reap.

The stack is taken by `snap()` on the very line of the call: `snap(), os.fork()`. So
every frame is at the same line for both, and `traceback` gives what the observer must
report. Any Python from 3.7 on, nothing but the standard library.
"""

import _posixsubprocess
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, Dict

RECORD = "STACKS_RECORD"  # names the file that is appended to

# The real ones: install() replaces what libraries call.
os_fork = os.fork
os_waitpid = os.waitpid
os_wait4 = os.wait4

_label = "?"
_flags: Any = ()


def snap():
    """Return the caller's stack as `traceback` gives it, innermost first.

    [function, qualified function or None, file, line or None] each.
    """
    frame: Any = sys._getframe(1)
    # as traceback.extract_stack() does it, without reading the sources
    summary = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    stack = [[each.name, None, each.filename, each.lineno] for each in summary]
    if sys.version_info >= (3, 11):
        for entry in stack:
            entry[1] = frame.f_code.co_qualname
            frame = frame.f_back
    return stack


def name(label, *flags):
    """What is recorded from now on is of the shape `label`. Flags say what may differ:

    "deep": more frames than are captured. "table": a line that may be unknown.
    "cut names": they may be. "broken", N: what is outside of the N innermost frames
    may be missing.
    """
    global _label, _flags
    _label, _flags = label, flags


def write(kind, **fields):
    """Append one record."""
    fields.update(kind=kind, label=_label, flags=_flags, by=os.getpid())
    line = json.dumps(fields, sort_keys=True) + "\n"
    # one write of one line: the kernel keeps those of several processes apart
    descriptor = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        # a line of its own, even where a killed process has left the beginning of another
        os.write(descriptor, b"\n" + line.encode("ascii"))
    finally:
        os.close(descriptor)


def forked(stack, child):
    """The calling process has forked `child`."""
    write("fork", child=child, stack=stack, ns=time.monotonic_ns())


def reaped(stack, child):
    """It has reaped `child`."""
    write("reap", child=child, stack=stack, ns=time.monotonic_ns())


_foretold: Dict[int, int] = {}  # PID -> forks


def foretell(kind):
    """What the caller does next on this line, written down before: it may be killed.

    "fork" is the process's next fork; "reap" is of the child that was foretold last.
    """
    number = _foretold.get(os.getpid(), 0) - (kind == "reap")
    if kind == "fork":
        _foretold[os.getpid()] = number + 1
    write("will " + kind, number=number, stack=snap()[1:], ns=time.monotonic_ns())


def child(work=None):
    """Fork a child that does `work` and ends; reap it."""
    stack, pid = snap(), os_fork()
    if pid == 0:
        _in_child(work)
    forked(stack, pid)
    stack, (pid, status) = snap(), os_waitpid(pid, 0)
    reaped(stack, pid)
    if status:
        raise RuntimeError("{}: the child ended with {}".format(_label, status))
    return pid


def program():
    """Start a program in a child, as an interpreter can that must not fork; reap it."""
    stack, pid = snap(), os.posix_spawn("/bin/true", ["true"], {})
    forked(stack, pid)
    stack, (pid, _) = snap(), os_waitpid(pid, 0)
    reaped(stack, pid)


def _in_child(work):
    try:
        if work is not None:
            work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def record_fork():
    """os.fork() for libraries. The child of one goes on where the parent does."""
    stack, pid = snap(), os_fork()
    if pid:
        forked(stack, pid)
    return pid


def record_waitpid(pid, options):
    """os.waitpid() for libraries."""
    stack, (pid, status) = snap(), os_waitpid(pid, options)
    if pid:
        reaped(stack, pid)
    return pid, status


def _record_fork_exec(*arguments):
    stack, pid = snap(), _fork_exec(*arguments)
    forked(stack, pid)
    return pid


_fork_exec = _posixsubprocess.fork_exec


def install():
    """From now on what the standard library forks and reaps is recorded, too."""
    os.fork, os.waitpid = record_fork, record_waitpid
    _posixsubprocess.fork_exec = _record_fork_exec
    vars(subprocess)["_USE_POSIX_SPAWN"] = False
    if hasattr(subprocess, "_fork_exec"):  # Python 3.11
        subprocess._fork_exec = _record_fork_exec
    if hasattr(subprocess, "_waitpid"):
        subprocess._waitpid = record_waitpid
    poll = vars(subprocess.Popen)["_internal_poll"]  # which has it as a default argument
    poll.__defaults__ = tuple(
        record_waitpid if each is os_waitpid else each for each in poll.__defaults__
    )


def in_thread(function):
    """Run it in a thread of its own; its exception is raised here."""
    failures = []

    def run():
        try:
            function()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
