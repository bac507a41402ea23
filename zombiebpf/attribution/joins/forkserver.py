# SPDX-License-Identifier: Apache-2.0
"""Find the child of a fork server that a pipe belongs to.

With the start method forkserver another process, the server, forks and reaps the
child. The process that asked for it has a pipe from the server, which brings the
child's PID and, at its end, its status (multiprocessing/popen_forkserver.py _launch()
and poll(), 3.7 to 3.15). start() reads the PID: the fork that happened while it slept
in that read is its own, for the server serves one request after the other. If several
threads or processes ask at once, the child may remain unknown; it is never guessed. A
thread that was never seen asleep in start() is not known to be one of them.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import Optional

from zombiebpf.attribution.frames import origin
from zombiebpf.attribution.joins.children import ChildRecord, Children
from zombiebpf.model.events import Block
from zombiebpf.model.life import Key
from zombiebpf.model.stack import Stack
from zombiebpf.model.units import NS_PER_MS

MAX_PIPES = 16384  # that are remembered
MAX_SERVERS = 64
MAX_FORKS = 256  # the latest of a server
FORK_DELAY_NS = 100 * NS_PER_MS  # a preempted server has reported a fork by then
EXIT_DELAY_NS = 20 * NS_PER_MS  # a preempted server has reported an exit by then

_SERVER = "multiprocessing.forkserver"
_LAUNCHER = "multiprocessing.popen_forkserver"


class ForkserverChildren:
    """The children of fork servers by the pipe that reports them: an inode number."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._forks: OrderedDict[Key, list[ChildRecord]] = OrderedDict()  # by server
        self._clients: set[tuple[Key, int]] = set()  # processes and threads
        self._pipes: OrderedDict[int, ChildRecord] = OrderedDict()
        self._claimed: dict[Key, int] = {}  # child -> pipe
        self._disputed: dict[Key, None] = {}  # children that two pipes have claimed

    def forked(self, child: ChildRecord) -> None:
        """Note a child whose forker's stack is known. Calls are in the order of forks."""
        if child.stack is None or not _is_server(child.stack):
            return
        forks = self._forks.setdefault(child.parent, [])
        self._forks.move_to_end(child.parent)
        forks.append(child)
        del forks[:-MAX_FORKS]
        while len(self._forks) > MAX_SERVERS:
            self._forks.popitem(last=False)

    def read(self, block: Block, stack: Stack) -> None:
        """Take a read that a thread slept in: the pipe may bring it the PID of its child."""
        if not _is_launching(stack):
            return
        client = (block.pid, block.start_ns)
        if len(self._clients) < MAX_SERVERS:
            self._clients.add((client, block.tid))
        inside = [
            (forks, index)
            for server, forks in self._forks.items()
            if self._serves(server, client)
            for index, child in enumerate(forks)
            if block.ns <= child.fork_ns <= block.ended_ns
        ]
        if len(inside) != 1:
            return
        ((forks, index),) = inside
        if len(self._clients) > 1 and index:
            # the fork before may be this one's, reported late, after another's was made
            before = forks[index - 1]
            if before.key not in self._claimed and before.fork_ns > block.ns - FORK_DELAY_NS:
                return
        self._claim(block.pipe, forks[index])

    def _claim(self, pipe: int, child: ChildRecord) -> None:
        if child.key in self._disputed:
            return
        other = self._claimed.get(child.key)
        if other is not None and other != pipe:
            del self._pipes[other]
            del self._claimed[child.key]
            self._disputed[child.key] = None
            if len(self._disputed) > MAX_FORKS:
                del self._disputed[next(iter(self._disputed))]
            return
        earlier = self._pipes.pop(pipe, None)  # the inode number is used again
        if earlier is not None:
            del self._claimed[earlier.key]
        self._pipes[pipe] = child
        self._claimed[child.key] = pipe
        while len(self._pipes) > MAX_PIPES:
            _, oldest = self._pipes.popitem(last=False)
            del self._claimed[oldest.key]

    def of_pipe(self, pipe: int) -> Optional[ChildRecord]:
        """Return the child that a pipe reports; None: unknown."""
        return self._pipes.get(pipe)

    def only_unclaimed(self, client: Key, began_ns: int, ended_ns: int) -> Optional[ChildRecord]:
        """Return the child of a client's join in that time, if all others have another pipe."""
        own = self._children.of_parent(client)
        if own is None or any(each.fork_ns == 0 and each.key not in self._forks for each in own):
            return None  # it may be for a child of its own, started before the observation
        unclaimed: list[ChildRecord] = []
        for server in self._forks:
            if self._serves(server, client):
                children = self._children.of_parent(server)
                if children is None:
                    return None
                unclaimed += (
                    child
                    for child in children
                    if child.key not in self._claimed
                    and child.fork_ns <= ended_ns
                    and (child.reap_ns is None or child.reap_ns >= began_ns - EXIT_DELAY_NS)
                )
        return unclaimed[0] if len(unclaimed) == 1 else None

    def _serves(self, server: Key, client: Key) -> bool:
        """Return whether the client started the server, was forked by it or has the same parent."""
        parent = self._parent(server)
        return parent == client or self._parent(client) in (server, parent or server)

    def _parent(self, process: Key) -> Optional[Key]:
        record = self._children.get(process)
        return None if record is None else record.parent


@lru_cache(1024)
def _is_server(stack: Stack) -> bool:
    return _calls(stack, 1) == [(_SERVER, "main")]


@lru_cache(1024)
def _is_launching(stack: Stack) -> bool:
    return _calls(stack, 2) == [(_SERVER, "read_signed"), (_LAUNCHER, "_launch")]


def _calls(stack: Stack, count: int) -> list[tuple[str, str]]:
    """Return module and unqualified name of the innermost functions."""
    return [
        (origin(frame.file).module, frame.function.rsplit(".", 1)[-1])
        for frame in stack.frames[:count]
    ]
