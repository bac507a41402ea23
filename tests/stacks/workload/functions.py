# SPDX-License-Identifier: Apache-2.0
"""Frames of plain code: calls of every kind, at lines of every kind."""

import functools
import os

from witness import child, forked, name, os_fork, os_wait4, os_waitpid, reaped, snap


def depths():
    def down(levels):
        if levels <= 1:
            return child()
        return down(levels - 1)

    for levels in (1, 5, 11, 31, 50):
        name("recursion of {}".format(levels))
        down(levels)
    name("recursion of 200", "deep")
    down(200)
    name("recursion of 900", "deep")
    down(900)


def at_the_limit():
    """64 frames are captured; the caller's and child() are among them."""

    def down(levels):
        return child() if levels == 0 else down(levels - 1)

    here = len(snap())
    for frames in (62, 63, 64):
        name("{} frames in all".format(frames))
        down(frames - here - 2)
    for frames in (65, 66):
        name("{} frames in all".format(frames), "deep")
        down(frames - here - 2)


def mutual():
    def even(number):
        return child() if number == 0 else odd(number - 1)

    def odd(number):
        return child() if number == 0 else even(number - 1)

    name("mutual recursion")
    even(7)
    odd(12)


def direct():
    """The fork itself in frames of several kinds, with no helper between."""
    name("fork and wait on lines of their own")
    stack, pid = snap(), os_fork()
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    stack, (pid, _) = snap(), os_waitpid(-1, 0)
    reaped(stack, pid)

    name("in a lambda")
    both = lambda: (snap(), os_fork())  # noqa: E731
    stack, pid = both()
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    stack, (pid, _) = (lambda: (snap(), os_waitpid(pid, 0)))()
    reaped(stack, pid)

    name("in a comprehension")
    ((stack, pid),) = [(snap(), os_fork()) for _ in range(1)]
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    ((stack, (pid, _)),) = {0: (snap(), os_waitpid(pid, 0)) for _ in range(1)}.values()
    reaped(stack, pid)

    name("in a generator expression")
    ((stack, pid),) = ((snap(), os_fork()) for _ in range(1))
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    ((stack, (pid, _, _)),) = tuple((snap(), os_wait4(pid, 0)) for _ in range(1))
    reaped(stack, pid)


def other_waits():
    """Each call that waits."""

    def start():
        stack, pid = snap(), os_fork()
        if pid == 0:
            os._exit(0)
        forked(stack, pid)
        return pid

    name("os.wait")
    start()
    stack, (pid, _) = snap(), os.wait()
    reaped(stack, pid)
    name("os.wait3")
    start()
    stack, (pid, _, _) = snap(), os.wait3(0)
    reaped(stack, pid)
    name("os.waitid")
    pid = start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    stack, result = snap(), os.waitid(os.P_PID, pid, os.WEXITED)
    assert result is not None
    reaped(stack, result.si_pid)
    name("os.waitpid with WNOHANG")
    pid = start()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    stack, (pid, _) = snap(), os_waitpid(pid, os.WNOHANG)
    reaped(stack, pid)
    name("os.waitpid of a group")
    start()
    stack, (pid, _) = snap(), os_waitpid(0, 0)
    reaped(stack, pid)
    if hasattr(os, "pidfd_open"):  # Python 3.9
        name("os.waitid by pidfd")
        pidfd = os.pidfd_open(start())
        stack, result = snap(), os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert result is not None
        reaped(stack, result.si_pid)
        os.close(pidfd)
    if hasattr(os, "posix_spawn"):  # Python 3.8
        name("os.posix_spawn")
        stack, pid = snap(), os.posix_spawn("/bin/true", ["true"], {})
        forked(stack, pid)
        stack, (pid, _) = snap(), os_waitpid(pid, 0)
        reaped(stack, pid)


def decorated():
    def plain(function):
        def wrapper(*arguments):
            return function(*arguments)

        return wrapper

    def wrapped(function):
        @functools.wraps(function)
        def wrapper(*arguments):
            child()
            return function(*arguments)

        return wrapper

    def forking(function):
        child()  # while it decorates
        return function

    name("decorators")

    @plain
    @wrapped
    @forking
    def inner():
        return child()

    inner()
    functools.lru_cache(maxsize=None)(inner)()


def nested():
    name("nested functions and closures")

    def outer(one):
        def middle(two):
            def inner(three):
                del three
                child()
                return one, two

            return inner(one)

        return middle(one)

    outer(1)

    def defaults(value=child()):
        return value

    defaults()


SHAPES = (depths, at_the_limit, mutual, direct, other_waits, decorated, nested)
