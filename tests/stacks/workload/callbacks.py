# SPDX-License-Identifier: Apache-2.0
"""Python called by C: callbacks, hooks, signals, finalizers, imports."""

import atexit
import collections
import functools
import gc
import itertools
import json
import os
import platform
import re
import signal
import sys
import tempfile
import weakref
from typing import Dict, List

from witness import child, forked, name, os_fork, os_waitpid, program, reaped, snap, write

CLONE = {"x86_64": 56, "aarch64": 220}


def key(*_):
    return child()


def builtins():
    name("callbacks of builtins")
    sorted([1, 2], key=key)
    list(map(lambda each: child(), range(2)))
    list(filter(key, [1]))
    min([1, 2], key=lambda each: child())
    functools.reduce(lambda one, two: child(), [1, 2])
    functools.partial(key, 1)()
    sorted([2, 1], key=functools.cmp_to_key(lambda one, two: child()))
    re.sub("a", lambda match: str(child()), "aa")
    made: Dict[int, int] = collections.defaultdict(child)
    made[0]
    json.dumps(object(), default=key)
    dict.fromkeys(each for each in [child()])
    type("Made", (), {"__init__": lambda self: child() and None})()
    any(map(functools.partial(key), [0]))

    name("the fork in a callback itself")
    ((stack, pid),) = map(lambda each: (snap(), os_fork()), [0])
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    ((stack, (pid, _)),) = map(lambda each: (snap(), os_waitpid(pid, 0)), [0])
    reaped(stack, pid)
    name("fork called by C with nothing of Python between")
    stack, (pid,) = snap(), itertools.starmap(os_fork, [()])
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    stack, ((pid, _),) = snap(), itertools.starmap(os_waitpid, [(pid, 0)])
    reaped(stack, pid)


def by_ctypes():
    name("callbacks of ctypes")
    try:
        import ctypes
    except ImportError:
        write("absent", reason="this Python has no ctypes")
        return
    library = ctypes.CDLL(None)
    comparing = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
    )

    def compare(one, two):
        child()
        return one[0] - two[0]

    numbers = (ctypes.c_int * 2)(2, 1)
    library.qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), comparing(compare))

    name("fork and waitpid of the C library")
    stack, pid = snap(), library.fork()
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    stack, pid = snap(), library.waitpid(pid, None, 0)
    reaped(stack, pid)

    name("fork and waitpid of the C library, the GIL held")
    held = ctypes.PyDLL(None)
    stack, pid = snap(), held.fork()
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    stack, pid = snap(), held.waitpid(pid, None, 0)
    reaped(stack, pid)

    name("clone(2): a child that the C library knows nothing of")
    number = CLONE.get(platform.machine())
    if number is None:
        write("absent", reason="the number of clone(2) is not known on this machine")
        return
    arguments = [number, int(signal.SIGCHLD), *[0] * 4]
    stack, pid = snap(), held.syscall(*map(ctypes.c_long, arguments))
    if pid == 0:
        child()
        child(child)
        os._exit(0)
    forked(stack, pid)
    stack, (pid, _) = snap(), os_waitpid(pid, 0)
    reaped(stack, pid)


def system():
    name("os.system and os.popen")
    with tempfile.NamedTemporaryFile() as file:
        stack, status = snap(), os.system("echo $$ >'{}'".format(file.name))
        pid = int(file.read())
        forked(stack, pid)
        reaped(stack, pid)
        assert status == 0


def signals():
    name("signal handlers")

    def handler(number, frame):
        child()

    before = signal.signal(signal.SIGUSR1, handler)

    def interrupted(levels):
        if levels:
            return interrupted(levels - 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        return [each for each in range(100)]

    interrupted(3)
    if hasattr(signal, "raise_signal"):  # Python 3.8
        signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)

    name("a SIGCHLD handler that reaps")

    def on_child(number, frame):
        stack, (pid, _) = snap(), os_waitpid(-1, os.WNOHANG)
        if pid:
            reaped(stack, pid)
            gone.append(pid)

    gone: List[int] = []
    before = signal.signal(signal.SIGCHLD, on_child)
    stack, pid = snap(), os_fork()
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    while not gone:
        sum(range(1000))
    signal.signal(signal.SIGCHLD, before)


class Finalized:
    def __del__(self):
        child()


def finalizers():
    name("finalizers and weak references")
    Finalized()
    held = Finalized()
    del held

    class Cycle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            child()

    Cycle()
    gc.collect()
    watched = Cycle.__new__(Finalized)
    reference = weakref.ref(watched, lambda _: child())
    del watched, reference
    other = type("Other", (), {})()
    weakref.finalize(other, child)
    del other

    def collecting(phase, _):
        if phase == "start":
            child()

    gc.callbacks.append(collecting)
    gc.collect()
    gc.callbacks.remove(collecting)


def tracing():
    name("trace and profile functions")

    def traced():
        value = 1
        return value

    busy: List[int] = []

    def tracer(frame, event, _):
        if frame.f_code is traced.__code__ and not busy:
            busy.append(1)
            child()
            busy.pop()
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        traced()
    finally:
        sys.settrace(before)
    sys.setprofile(tracer)
    try:
        traced()
    finally:
        sys.setprofile(None)


def imports():
    name("imports")
    with tempfile.TemporaryDirectory() as directory:
        for module, text in (
            ("stacks_outer", "from witness import child\nchild()\n\nimport stacks_inner\n"),
            ("stacks_inner", "#\n" * 950 + "import witness\n\n\nwitness.child()\n"),
        ):
            with open(os.path.join(directory, module + ".py"), "w", encoding="utf-8") as stream:
                stream.write(text)
        sys.path.insert(0, directory)
        try:
            __import__("stacks_outer")
        finally:
            sys.path.remove(directory)


def hooks():
    name("hooks of fork itself")
    # Run by os.fork() of the child's own: at the fork they have ended, or not begun.
    active: List[int] = []

    def before():
        if not active:
            active.append(1)
            child()
            active.pop()

    enabled = [True]
    os.register_at_fork(before=lambda: before() if enabled[0] else None)
    child()
    enabled[0] = False


def register_exit():
    """What runs at the interpreter's end, in whatever order."""

    def at_exit(levels):
        name("atexit")
        if levels:
            return at_exit(levels - 1)
        try:
            return child()
        except RuntimeError:  # Python 3.12 forks no more there
            return program()

    atexit.register(at_exit, 0)
    atexit.register(at_exit, 6)
    atexit.register(lambda: at_exit(1))


SHAPES = (builtins, by_ctypes, system, signals, finalizers, tracing, imports, hooks, register_exit)
