# SPDX-License-Identifier: Apache-2.0
"""Many threads, interpreters and processes."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import witness
from witness import child, forked, name, os_fork, os_waitpid, reaped, snap, write

THREADS = 300
HERE = os.path.dirname(os.path.abspath(__file__))


def threads():
    name("one of 300 threads")
    turn = [threading.Event() for _ in range(THREADS)]
    done = [threading.Event() for _ in range(THREADS)]

    def down(levels):
        return down(levels - 1) if levels else child()

    def run(number):
        turn[number].wait()
        if number % 15 == 0:
            down(number // 15)
        elif number % 15 == 1:
            stack, pid = snap(), os_fork()
            if pid == 0:
                os._exit(0)
            forked(stack, pid)
            stack, (pid, _) = snap(), os_waitpid(pid, 0)
            reaped(stack, pid)
        done[number].set()

    size = threading.stack_size(256 * 1024)
    workers = [threading.Thread(target=run, args=(each,)) for each in range(THREADS)]
    for worker in workers:
        worker.start()
    threading.stack_size(size)
    for number in range(0, THREADS, 15):
        for each in (number, number + 1):
            turn[each].set()
            done[each].wait()
        if number % 60 == 0:
            child()  # the main thread's own
    for event in turn:
        event.set()
    for worker in workers:
        worker.join()


def threads_at_once():
    name("threads that fork at once")
    barrier = threading.Barrier(8)

    def run(levels):
        barrier.wait()
        for _ in range(4):
            down(levels)

    def down(levels):
        return down(levels - 1) if levels else child()

    workers = [threading.Thread(target=run, args=(each,)) for each in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def threads_come_and_go():
    name("threads of the same identity, one after the other")
    for number in range(12):

        def run(levels=number):
            return run(levels - 1) if levels else child()

        witness.in_thread(run)
    name("a thread's child that goes on")

    def in_child():
        child()
        child(child)

    witness.in_thread(lambda: child(in_child))
    name("a child's thread")
    child(lambda: witness.in_thread(child))


def generations():
    name("children that fork")

    def beget(levels):
        child((lambda: beget(levels - 1)) if levels else None)
        child()

    beget(4)
    name("a child that takes over as the parent was")
    stack, pid = snap(), os_fork()
    if pid == 0:
        child()
        stack, pid = snap(), os_fork()
        if pid == 0:
            child()
            os._exit(0)
        forked(stack, pid)
        stack, (pid, _) = snap(), os_waitpid(pid, 0)
        reaped(stack, pid)
        os._exit(0)
    forked(stack, pid)
    stack, (pid, _) = snap(), os_waitpid(pid, 0)
    reaped(stack, pid)


def new_code_in_children():
    """Parent and child each make code after they parted: perhaps at the same address."""
    name("code made on both sides of a fork")

    def make(function, lines):
        source = "\n" * lines + "def {}():\n    child()\n{}()".format(function, function)
        exec(compile(source, "<{}>".format(function), "exec"), {"child": child})

    for number in range(5):
        child(lambda number=number: make("of_child_{}".format(number), 40 + number))
        make("of_parent_{}".format(number), number)


CODE = """
import sys
sys.dont_write_bytecode = True  # which an isolated interpreter is not told
sys.path.insert(0, {here!r})
from witness import child, name
name({label!r})
def f(levels=6):
    return f(levels - 1) if levels else child()
f()
[child() for _ in range(2)]
"""


def other_programs():
    """New interpreters of the same kind: seen from their first line."""
    for label, options in (
        ("a new interpreter", []),
        ("an isolated interpreter", ["-I", "-S"]),
        ("an optimized interpreter", ["-OO", "-B"]),
        ("an interpreter in development mode", ["-X", "dev"]),
        ("an interpreter that traces allocations", ["-X", "tracemalloc=5"]),
    ):
        name(label)
        code = CODE.format(here=HERE, label=label)
        subprocess.check_call([sys.executable, *options, "-W", "ignore", "-c", code])
    name("a program from standard input")
    code = CODE.format(here=HERE, label="a program from standard input")
    subprocess.run([sys.executable, "-W", "ignore", "-"], input=code.encode(), check=True)
    name("exec in place")
    code = CODE.format(here=HERE, label="exec in place")

    def replace():
        child()
        os.execv(sys.executable, [sys.executable, "-W", "ignore", "-c", code])

    child(replace)


def of_subprocess():
    name("subprocess")
    subprocess.run(["true"], check=True)
    subprocess.check_output("true; true", shell=True)
    with subprocess.Popen(["sleep", "0.01"]) as process:
        process.poll()
    process = subprocess.Popen(["true"])
    try:
        process.wait(timeout=60)
    finally:
        process.kill()
    try:
        subprocess.Popen(["/nonexistent/program"])
    except FileNotFoundError:
        pass
    del process


def _work(number):
    name("multiprocessing")
    if number % 2 == 0:
        child()
    return number


def of_multiprocessing():
    name("multiprocessing")
    for method in ("fork", "spawn", "forkserver"):
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=_work, args=(0,))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError("{}: exit code {}".format(method, process.exitcode))
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        pool.map(_work, range(4))
        pool.close()
        pool.join()
    name("concurrent.futures")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        list(executor.map(_work, range(4)))
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda _: child(), range(4)))


def subinterpreters():
    name("subinterpreters")
    module = next((each for each in _INTERPRETERS if _has(each)), None)
    if module is None:
        write("absent", reason="this Python has no subinterpreters to make")
        return
    interpreters = __import__(module)
    code = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, {here!r})
        from witness import name, program
        name("subinterpreters")
        def down(levels):
            return down(levels - 1) if levels else program()
        down(0)
        down(7)
        """
    ).format(here=HERE)
    if not hasattr(os, "posix_spawn"):
        write("absent", reason="nothing forks in a subinterpreter of this Python")
        return

    def in_one():
        number = _create(interpreters)
        try:
            failed = _run(interpreters, number, code)
            if failed:
                raise RuntimeError(failed)
            witness.program()  # with a subinterpreter about, a forked child may hang
            _run(interpreters, number, code)
        finally:
            interpreters.destroy(number)

    in_one()
    child()
    witness.in_thread(in_one)


_INTERPRETERS = ("_interpreters", "_xxsubinterpreters")


def _has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def _create(interpreters):
    """One that may start processes."""
    for arguments, named in ((("legacy",), {}), ((), {"isolated": False}), ((), {})):
        try:
            return interpreters.create(*arguments, **named)
        except TypeError:
            pass
    raise RuntimeError("no way to create a subinterpreter is known")


def _run(interpreters, number, code):
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    return run(number, code)


SHAPES = (
    threads,
    threads_at_once,
    threads_come_and_go,
    generations,
    new_code_in_children,
    other_programs,
    of_subprocess,
    of_multiprocessing,
    subinterpreters,
)
