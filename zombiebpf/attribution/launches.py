# SPDX-License-Identifier: Apache-2.0
"""Which child of a fork server does a pipe tell of?

Under the start method forkserver another process forks and reaps the child; who
started it has a pipe from the server, by which that tells the child's PID and, at
its end, its status (multiprocessing/popen_forkserver.py _launch() and poll(), 3.7 to
3.15). start() reads the PID: the fork for which it slept in that read is its own,
for the server serves one request after the other. What several threads or processes
ask for at once may remain unknown; it is not guessed. Who was never seen asleep in
start() is not known to be one of these.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Optional

from zombiebpf.attribution.children import Children, Key, Known
from zombiebpf.attribution.frames import origin
from zombiebpf.stack import Stack

MOST_PIPES = 16384  # that are remembered
MOST_SERVERS = 64
RECENT = 256  # forks of a server
CLOSE_NS = 100_000_000  # a server that was preempted has told of a fork within that time
TOLD_NS = 20_000_000  # the same, of a death

_SERVER = "multiprocessing.forkserver"
_LAUNCHER = "multiprocessing.popen_forkserver"


class Launches:
    """Feed it the forks and sleeps of Python processes; ask it for a pipe's child."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._forks: OrderedDict[Key, list[Known]] = OrderedDict()  # by server: the latest
        self._clients: set[tuple[Key, int]] = set()  # processes and threads
        self._pipes: OrderedDict[int, Known] = OrderedDict()
        self._claimed: dict[Key, int] = {}  # the reverse
        self._disputed: dict[Key, None] = {}  # two pipes have claimed it

    def forked(self, child: Known) -> None:
        """A child whose forker's stack is known, in the order of forks."""
        if not _is_server(child.stack):
            return
        forks = self._forks.setdefault(child.parent, [])
        self._forks.move_to_end(child.parent)
        forks.append(child)
        del forks[:-RECENT]
        while len(self._forks) > MOST_SERVERS:
            self._forks.popitem(last=False)

    def slept(
        self, client: Key, tid: int, stack: Stack, pipe: int, began_ns: int, ended_ns: int
    ) -> None:
        """A thread has slept in a read of this pipe."""
        if not _awaits_fork(stack):
            return
        if len(self._clients) < MOST_SERVERS:
            self._clients.add((client, tid))
        inside = [
            (forks, index)
            for server, forks in self._forks.items()
            if self._serves(server, client)
            for index, child in enumerate(forks)
            if began_ns <= child.fork_ns <= ended_ns
        ]
        if len(inside) != 1:
            return
        ((forks, index),) = inside
        if len(self._clients) > 1 and index:
            # the fork before may be this one's: told late, while another's was made already
            before = forks[index - 1]
            if before.key not in self._claimed and before.fork_ns > began_ns - CLOSE_NS:
                return
        self._claim(pipe, forks[index])

    def _claim(self, pipe: int, child: Known) -> None:
        if child.key in self._disputed:
            return
        other = self._claimed.get(child.key)
        if other is not None and other != pipe:
            self._pipes.pop(other, None)
            del self._claimed[child.key]
            self._disputed[child.key] = None
            if len(self._disputed) > RECENT:
                del self._disputed[next(iter(self._disputed))]
            return
        earlier = self._pipes.pop(pipe, None)  # the number has come again
        if earlier is not None:
            self._claimed.pop(earlier.key, None)
        self._pipes[pipe] = child
        self._claimed[child.key] = pipe
        while len(self._pipes) > MOST_PIPES:
            _, oldest = self._pipes.popitem(last=False)
            self._claimed.pop(oldest.key, None)

    def of_pipe(self, pipe: int) -> Optional[Known]:
        return self._pipes.get(pipe)

    def only_one_left(self, client: Key, began_ns: int, ended_ns: int) -> Optional[Known]:
        """Who a join for an unknown child must be for: all others of that time are known to be
        other pipes'."""
        own = self._children.of_parent(client)
        if own is None or any(each.fork_ns == 0 and each.key not in self._forks for each in own):
            return None  # it may be for one of its own, started before anybody looked
        left: list[Known] = []
        for server in self._forks:
            if self._serves(server, client):
                known = self._children.of_parent(server)
                if known is None:
                    return None
                left += (
                    child
                    for child in known
                    if child.key not in self._claimed
                    and child.fork_ns <= ended_ns
                    and (child.reap_ns is None or child.reap_ns >= began_ns - TOLD_NS)
                )
        return left[0] if len(left) == 1 else None

    def _serves(self, server: Key, client: Key) -> bool:
        """Its own server, the one that forked it, or the one that its parent started."""
        parent = self._parent(server)
        return parent == client or self._parent(client) in (server, parent or server)

    def _parent(self, process: Key) -> Optional[Key]:
        known = self._children.get(process)
        return None if known is None else known.parent


def _is_server(stack: Optional[Stack]) -> bool:
    """It forked in the server's loop, main()."""
    return stack is not None and _calls(stack, 1) == [(_SERVER, "main")]


def _awaits_fork(stack: Stack) -> bool:
    """It reads the PID."""
    return _calls(stack, 2) == [(_SERVER, "read_signed"), (_LAUNCHER, "_launch")]


def _calls(stack: Stack, count: int) -> list[tuple[str, str]]:
    """Module and unqualified name of the innermost functions."""
    return [
        (origin(frame.file).module, frame.function.rsplit(".", 1)[-1])
        for frame in stack.frames[:count]
    ]
