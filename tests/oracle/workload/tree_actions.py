# SPDX-License-Identifier: Apache-2.0
"""What the processes of a random tree do to each other.

An act runs in a process of its own, which ends when the act returns. What it leaves unreaped goes
to its adopter. Rule of the book: nobody is killed, and no thread group exits, between a fork and
the line about it; so every kill waits for a byte that says "written".
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from functools import partial
from typing import Callable, NoReturn

from system_calls import (
    CLONE_PARENT,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    clone,
    crash,
    exit_thread,
    fork,
    no_zombies,
    orphaned,
    posix_spawn,
    prctl,
    reap,
    reap_all,
    reap_any,
    zombie,
)

Rng = random.Random
PROGRAMS = ("/bin/true", "/bin/false")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGSEGV)
DEEPEST = 3


def _split(rng: Rng) -> Rng:
    """A generator for a child, drawn before the fork: the tree depends on the seed alone."""
    return random.Random(rng.getrandbits(64))


def _nap(rng: Rng) -> None:
    time.sleep(rng.choice((0, 0, rng.uniform(0, 0.002))))


def end(rng: Rng) -> NoReturn:
    """End this process in a random way."""
    _nap(rng)
    way = rng.random()
    if way < 0.2:
        program = rng.choice(PROGRAMS)
        os.execv(program, [program])
    if way < 0.4:
        os.kill(os.getpid(), rng.choice(SIGNALS))
    if way < 0.43:
        crash()
    os._exit(rng.randrange(256))


def child(rng: Rng, depth: int) -> int:
    """A child that just ends, or does an act of its own first."""
    inner = _split(rng)
    if depth < DEEPEST and rng.random() < 0.12:
        return fork(lambda: act(inner, depth + 1), "act")
    return fork(lambda: end(inner), "leaf")


def _orphan(rng: Rng) -> int:
    """A child that outlives its parent."""
    inner, parent = _split(rng), os.getpid()

    def live() -> None:
        if inner.random() < 0.3:
            os.setsid()
        orphaned(parent)
        end(inner)

    return fork(live, "orphan")


def _in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def reaped(rng: Rng, depth: int) -> None:
    """Some children, each reaped: by this thread or by another, in any order."""
    children = [child(rng, depth) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.2:
        children.append(posix_spawn(rng.choice(PROGRAMS)))
    rng.shuffle(children)
    for pid in children:
        _nap(rng)
        if rng.random() < 0.25:
            inner = _split(rng)
            thread = threading.Thread(target=reap, args=(pid, inner))
            thread.start()
            thread.join()
        else:
            reap(pid, rng)


def zombies_left(rng: Rng, depth: int) -> None:
    """The parent dies with zombies unreaped: they are announced again, to the adopter."""
    for pid in [child(rng, DEEPEST) for _ in range(rng.randint(1, 5))]:
        zombie(pid)


def orphans_left(rng: Rng, depth: int) -> None:
    """The parent dies first."""
    for _ in range(rng.randint(1, 4)):
        _orphan(rng)
    if rng.random() < 0.5:
        child(rng, depth)  # alive, dying or a zombie by then
    if rng.random() < 0.4:
        os.execv("/bin/true", ["true"])  # the parent dies as another program
    end(rng)


def double_fork(rng: Rng, depth: int) -> None:
    """A daemon, as books teach it."""
    inner = _split(rng)

    def middle() -> None:
        os.setsid()
        child(inner, depth)

    reap(fork(middle, "middle"), rng)


def forking_threads(rng: Rng, depth: int) -> None:
    """Threads fork; some die before their children, which then belong to a sibling thread."""
    children: list[int] = []
    seeds = [_split(rng) for _ in range(rng.randint(1, 3))]

    def work(inner: Rng) -> None:
        pid = child(inner, DEEPEST)
        if inner.random() < 0.4:
            reap(pid, inner)
        else:
            children.append(pid)

    threads = [_in_thread(partial(work, inner)) for inner in seeds]
    for thread in threads:
        thread.join()
    for pid in children:
        reap(pid, rng)


def group_exit(rng: Rng, depth: int) -> None:
    """exit_group while threads have children: dying siblings hand them to each other."""
    ready = threading.Barrier(rng.choice((2, 3, 4)))
    seeds = [_split(rng) for _ in range(ready.parties - 1)]

    def work(inner: Rng) -> None:
        for _ in range(inner.randint(1, 2)):
            _orphan(inner)
        ready.wait()
        threading.Event().wait()

    for inner in seeds:
        _in_thread(partial(work, inner))
    ready.wait()
    end(rng)  # exit_group, a signal or an exec by the leader


def thread_execs(rng: Rng, depth: int) -> None:
    """A thread that is not the leader execs: it takes the leader's PID. Its sibling has a child."""
    inner = _split(rng)
    orphan = rng.random() < 0.5

    def work() -> None:
        if orphan:
            _orphan(inner)
        os.execv("/bin/true", ["true"])

    if rng.random() < 0.5:
        _orphan(rng)
    _in_thread(work)
    threading.Event().wait()


def leader_first(rng: Rng, depth: int) -> None:
    """The leader thread dies, its process lives on in another thread."""
    inner = _split(rng)
    if rng.random() < 0.5:
        child(rng, DEEPEST)  # its parent thread dies: a sibling inherits it

    def work() -> None:
        reap(child(inner, DEEPEST), inner)
        if inner.random() < 0.5:
            _nap(inner)
        end(inner)

    _in_thread(work)
    exit_thread()


def autoreap(rng: Rng, depth: int) -> None:
    """The kernel reaps the children; wait() comes back when the last has gone."""
    if rng.random() < 0.5:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        no_zombies()
    for _ in range(rng.randint(1, 4)):
        child(rng, depth)
    reap_all()


def parents_sibling(rng: Rng, depth: int) -> None:
    """CLONE_PARENT: the forker is not the parent."""
    inner, second = _split(rng), _split(rng)

    def middle() -> None:
        clone(CLONE_PARENT, 0, lambda: end(inner), "clone_parent")
        end(second)

    fork(middle, "middle")
    reap_all()


def other_signal(rng: Rng, depth: int) -> None:
    """Children that announce their death by another signal than SIGCHLD, or by none."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for number in rng.sample((0, int(signal.SIGUSR1)), rng.randint(1, 2)):
        inner = _split(rng)
        reap(clone(0, number, partial(end, inner), f"clone_{number}"), rng)


def subreaper(rng: Rng, depth: int) -> None:
    """Adopts what its descendants leave: waits for it, has the kernel reap it, or dies too."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    mode = rng.choice(("wait", "wait", "ignore", "nocldwait", "die"))
    if mode == "ignore":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif mode == "nocldwait":
        no_zombies()
    for _ in range(rng.randint(1, 3)):
        inner = _split(rng)
        what = rng.choice((orphans_left, zombies_left, double_fork, group_exit, forking_threads))
        fork(partial(what, inner, depth + 1), "act")
    if mode == "die":
        reap_any()
        end(rng)
    reap_all()


def stopped(rng: Rng, depth: int) -> None:
    """WUNTRACED and WCONTINUED return without reaping."""
    pid = fork(signal.pause, "pausing")
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, os.WCONTINUED)
    os.kill(pid, rng.choice((signal.SIGKILL, signal.SIGTERM)))
    reap(pid, rng)


def parent_death_signal(rng: Rng, depth: int) -> None:
    """PR_SET_PDEATHSIG: the parent's death kills the child."""
    ready, says_ready = os.pipe()

    def live() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.write(says_ready, b"r")
        threading.Event().wait()

    for _ in range(count := rng.randint(1, 2)):
        fork(live, "pdeathsig")
    for _ in range(count):
        os.read(ready, 1)
    end(rng)


def parent_killed(rng: Rng, depth: int) -> None:
    """A child kills its parent."""
    number = rng.choice((signal.SIGKILL, signal.SIGTERM))
    inner, parent = _split(rng), os.getpid()
    written, says_written = os.pipe()

    def live() -> None:
        os.read(written, 1)
        os.kill(parent, number)
        orphaned(parent)
        end(inner)

    fork(live, "killer")
    os.write(says_written, b"w")
    threading.Event().wait()


def wide(rng: Rng, depth: int) -> None:
    """Many children of one dying parent."""
    for _ in range(rng.randint(10, 50)):
        child(rng, DEEPEST)


ACTS: dict[Callable[[Rng, int], None], int] = {
    reaped: 8, zombies_left: 3, orphans_left: 4, double_fork: 3, forking_threads: 3, group_exit: 3,
    thread_execs: 3, leader_first: 3, autoreap: 4, parents_sibling: 3, other_signal: 2,
    subreaper: 4, stopped: 1, parent_death_signal: 2, parent_killed: 2, wide: 1,
}  # fmt: skip


def act(rng: Rng, depth: int = 0) -> None:
    """One random act; then this process ends in a random way."""
    rng.choices(list(ACTS), list(ACTS.values()))[0](rng, depth)
    end(rng)
