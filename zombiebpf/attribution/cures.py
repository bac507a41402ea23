# SPDX-License-Identifier: Apache-2.0
"""What to change: one sentence with the code, by who made the child and who reaped it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from zombiebpf.attribution.finding import forked_by
from zombiebpf.attribution.sites import Line, short
from zombiebpf.life import Life

# Nobody waited, by who made the child.
_NOBODY: Mapping[str, str] = {
    "multiprocessing": "keep the Process{there} and call its join() as soon as it can have ended;"
    " where many are started, multiprocessing.active_children() reaps all that have",
    "subprocess": "keep the Popen{there} and call its wait(), or poll() now and then,"
    " or start it with subprocess.run(), which waits",
    "asyncio": "write `await proc.wait()` for the process started{there}, and let nothing block"
    " the event loop meanwhile",
    "concurrent.futures": "use the executor{there} as `with ProcessPoolExecutor() as executor:`,"
    " or call its shutdown()",
    "multiprocessing.pool": "use the pool{there} as `with Pool() as pool:`, or call its close()"
    " and join()",
    "os": "call os.waitpid(pid, 0) for each child forked{there}, or, in a SIGCHLD handler,"
    " os.waitpid(-1, os.WNOHANG) in a loop until it gives 0 or ChildProcessError",
    "loky": "call the executor's shutdown() when it{there} is no longer needed",
    "billiard": "call join() on the process{there}",
    "python": "make {who} wait for its children: join() each Process, wait() for each Popen,"
    " or os.waitpid() for what it forked",
    "other": "make {who} wait for its children: waitpid() in C, `wait` in a shell script",
}

# It was reaped, but late, by the call that did it.
_LATE: Mapping[str, str] = {
    "join": "it was joined only after something else: wait for whichever ends first with"
    " multiprocessing.connection.wait([p.sentinel for p in processes]), then join() that one",
    "is_alive": "ask more often, or wait for the process with join() in a thread of its own",
    "exitcode": "ask more often, or wait for the process with join() in a thread of its own",
    "Popen.poll": "poll more often, or call wait() in a thread of its own",
    "Popen.wait": "call wait() earlier, or poll() while there is other work",
    "asyncio child watcher (pidfd)": "the event loop was blocked: move what blocks it into"
    " `await asyncio.to_thread(...)`",
    "asyncio child watcher (safe)": "the event loop was blocked: move what blocks it into"
    " `await asyncio.to_thread(...)`",
    "os.wait*": "call os.waitpid() as soon as the child has ended: when SIGCHLD comes, in a loop"
    " with os.WNOHANG, or in a thread of its own",
    "gunicorn arbiter": "nothing of yours: gunicorn's arbiter looks after its workers when a"
    " signal comes, or each second",
    "uvicorn supervisor": "nothing of yours: uvicorn's supervisor looks after its workers each"
    " half second",
    "celery": "nothing of yours: celery's pool is looked after at intervals",
    "billiard": "nothing of yours: billiard's supervisor looks after its workers each 0.8 s",
}
_LATE_ALIKE = {"join(timeout)": "join", "signal handler": "os.wait*"}

NOT_YOURS = {"gunicorn arbiter", "uvicorn supervisor", "celery", "billiard"}


def nobody_waits(life: Life, where: Optional[Line]) -> str:
    """For a child that its parent did not wait for."""
    kind = forked_by(life.fork_stack)
    if kind == "other" and life.meanwhile is not None and life.meanwhile.stack is not None:
        kind = "python"  # from before we looked: what forked it is not known
    text = _NOBODY[kind]
    above = life.forker or life.parent
    who = above.comm if above is not None and above.comm else "its parent"
    return text.format(there=f" of {short(where)}" if where is not None else "", who=who)


def late(life: Life, kind: Optional[str], where: Optional[Line]) -> str:
    """For a child that was waited for too late."""
    kind = _LATE_ALIKE.get(kind or "", kind or "")
    return _LATE.get(kind) or nobody_waits(life, where)
