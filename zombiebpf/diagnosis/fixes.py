# SPDX-License-Identifier: Apache-2.0
"""The fixes: one sentence with the code to write, by forking library and reaping call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from zombiebpf.diagnosis.finding import forking_library
from zombiebpf.model.life import Life
from zombiebpf.model.stack import Frame
from zombiebpf.wording.wording import Wording

# Nobody waited: fixes by forking library.
_NOBODY: Mapping[str, str] = {
    "multiprocessing": "Keep the Process{there} and call its join() as soon as it can have ended;"
    " where many are started, multiprocessing.active_children() reaps all that have",
    "subprocess": "Keep the Popen{there} and call its wait(), or poll() now and then,"
    " or start it with subprocess.run(), which waits",
    "asyncio": "Write `await proc.wait()` for the process started{there}, and let nothing block"
    " the event loop meanwhile",
    "concurrent.futures": "Use the executor{there} as `with ProcessPoolExecutor() as executor:`,"
    " or call its shutdown()",
    "multiprocessing.pool": "Use the pool{there} as `with Pool() as pool:`, or call its close()"
    " and join()",
    "os": "Call os.waitpid(pid, 0) for each child forked{there}, or, in a SIGCHLD handler,"
    " os.waitpid(-1, os.WNOHANG) in a loop until it gives 0 or ChildProcessError",
    "loky": "Call the executor's shutdown() when it{there} is no longer needed",
    "billiard": "Call join() on the process{there}",
    "python": "Make {who} wait for its children: join() each Process, wait() for each Popen,"
    " or os.waitpid() for what it forked",
    "other": "Make {who} wait for its children: waitpid() in C, `wait` in a shell script",
}

# The child was reaped late: fixes by kind of the reaping call.
_LATE: Mapping[str, str] = {
    "join": "It was joined only after something else: wait for whichever ends first with"
    " multiprocessing.connection.wait([p.sentinel for p in processes]), then join() that one",
    "is_alive": "Ask more often, or wait for the process with join() in a thread of its own",
    "exitcode": "Ask more often, or wait for the process with join() in a thread of its own",
    "Popen.poll": "Poll more often, or call wait() in a thread of its own",
    "Popen.wait": "Call wait() earlier, or poll() while there is other work",
    "asyncio child watcher (pidfd)": "The event loop was blocked: move what blocks it into"
    " `await asyncio.to_thread(...)`",
    "asyncio child watcher (safe)": "The event loop was blocked: move what blocks it into"
    " `await asyncio.to_thread(...)`",
    "os.wait*": "Call os.waitpid() as soon as the child has ended: when SIGCHLD comes, in a loop"
    " with os.WNOHANG, or in a thread of its own",
    "gunicorn arbiter": "Nothing of yours: gunicorn's arbiter looks after its workers when a"
    " signal comes, or each second",
    "uvicorn supervisor": "Nothing of yours: uvicorn's supervisor looks after its workers each"
    " half second",
    "celery": "Nothing of yours: celery's pool is looked after at intervals",
    "billiard": "Nothing of yours: billiard's supervisor looks after its workers each 0.8 s",
}
_SAME_FIX = {"join(timeout)": "join", "signal handler": "os.wait*"}

NOT_YOURS = {"gunicorn arbiter", "uvicorn supervisor", "celery", "billiard"}


def nobody_waits(life: Life, site: Optional[Frame], words: Wording) -> str:
    """Return the fix for a child, forked at `site`, that its parent did not wait for."""
    library = forking_library(life.fork_stack)
    if library == "other" and life.meanwhile is not None and life.meanwhile.stack is not None:
        library = "python"  # forked before the observation, by an unknown library
    parent = life.forker or life.parent
    who = parent.comm if parent is not None and parent.comm else "its parent"
    there = f" of {words.line(site)}" if site is not None else ""
    return _NOBODY[library].format(there=there, who=who)


def late(life: Life, site: Optional[Frame], words: Wording) -> str:
    """Return the fix for a child, forked at `site`, that was reaped too late."""
    kind = life.reap_kind or ""
    return _LATE.get(_SAME_FIX.get(kind, kind)) or nobody_waits(life, site, words)
