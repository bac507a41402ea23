# SPDX-License-Identifier: Apache-2.0
"""Which processes run CPython, told to the probes, so that they can walk stacks.

An interpreter's binary is a template: where _PyRuntime lies from the start
function on, and the offsets of its version. A uprobe on that function registers
a process inside BPF before it runs any Python code; a process that runs already,
or a binary that was not known when it started, is registered from its memory map.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable, Optional

from zombiebpf.events import Event, Text, TextKind
from zombiebpf.kernel import bpf, machine, perf
from zombiebpf.kernel.loaded import Probes
from zombiebpf.python.image import Image
from zombiebpf.python.interpreter import Interpreter, Unsupported, find_interpreter
from zombiebpf.python.offsets import Offsets, named
from zombiebpf.python.source import read_source

START_BYTES = 64  # of the start function, that tell binaries apart; probes/python_start.bpf.c
_MOST_LAYOUTS = 64
_MOST_TEMPLATES = 256
_MOST_KEPT = 65536
_MOST_PATHS = 4096
_TRIES = 5  # reads, some 20 ms apart
_PAGE_MASK = 0xFFF
_U64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def fingerprint(image: Image) -> int:
    """The key of `templates`: the function's place in its page, and its code."""
    assert image.init is not None
    value = _mix(0, image.init & _PAGE_MASK)
    for at in range(0, START_BYTES, 8):
        value = _mix(value, int.from_bytes(image.init_bytes[at : at + 8], "little"))
    return value


def _mix(value: int, word: int) -> int:
    """As mix() in probes/python_stack.bpf.c."""
    value = ((value ^ word) * _GOLDEN) & _U64
    return value ^ value >> 32


class Pythons:
    """The interpreters that the probes know. `probes` are the loaded ones."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._layouts: dict[Offsets, int] = {}
        self._known: set[tuple[int, int]] = set()  # binaries with a uprobe: device, inode
        self._uprobes: list[int] = []  # their descriptors
        self._unsupported: dict[int, Unsupported] = {}  # by PID: it has no stacks, and why
        # by PID: it was Python from the first instant on, known from the second, CLOCK_MONOTONIC ns
        self._late: dict[int, tuple[int, int]] = {}
        self._gone: dict[int, int] = {}  # by PID: dead at the latest then, CLOCK_MONOTONIC ns
        self._outsiders: dict[int, bool] = {}  # by PID: is it Python?
        self.expected: list[str] = []  # versions of binaries that are known before they start
        self.refused: Optional[str] = None  # why no uprobe can be placed here

    def expect(self, images: Iterable[Image]) -> None:
        """Know these binaries' processes from their first instruction on."""
        for image in images:
            self._expect(image)

    def _expect(self, image: Image) -> None:
        if image.problem is not None or image.init is None or image.offsets is None:
            return
        try:
            status = os.stat(image.path)
        except OSError:
            return
        identity = (status.st_dev, status.st_ino)
        if identity in self._known or len(self._known) >= _MOST_TEMPLATES:
            return
        layout = self._layout(image.offsets)
        if layout is None or self.refused is not None:
            return
        self._known.add(identity)
        self.expected.append(named(image.version) if image.version else "?")
        templates = self._probes["templates"]
        template = templates.Leaf(
            image.runtime - image.init,
            image.code_type - image.init,
            image.str_type - image.init,
            image.bytes_type - image.init,
            layout,
            0,
        )
        templates[templates.Key(fingerprint(image))] = template
        try:
            self._place_uprobe(image)
        except OSError as error:
            self.refused = str(error)

    def _place_uprobe(self, image: Image) -> None:
        assert image.init_offset is not None
        program = self._probes.load("on_python_start", bpf.KPROBE)
        self._uprobes.append(perf.attach_uprobe(program, image.path, image.init_offset))

    def close(self) -> None:
        """Take the uprobes away; each time the kernel waits for all that may be in one, so
        this goes on beside what comes next."""
        uprobes, self._uprobes = self._uprobes, []
        if uprobes:
            threading.Thread(target=_close, args=(uprobes,)).start()

    def register(
        self,
        pid: int,
        tgid: Optional[int] = None,
        has_children: bool = False,
        since_ns: int = 0,
    ) -> bool:
        """Know a process that runs. False if it is no CPython that can be read.

        `tgid` is its number in the machine's first PID namespace, `pid` as /proc has it;
        it is Python since `since_ns`, when it execed.
        """
        found = find_interpreter(pid)
        if isinstance(found, Unsupported):
            _keep(self._unsupported, pid, found)
            return False
        if found is None or found.image.offsets is None:
            return False
        layout = self._layout(found.image.offsets)
        if layout is None:
            return False
        if self._enter(found, layout, tgid or self._tgid(pid), has_children):
            _keep(self._late, pid, (since_ns, time.monotonic_ns()))
        self._expect(found.image)
        return True

    def born(self, forker: int, child: int, ns: int) -> bool:
        """A fork at `ns`: of a Python that was not known yet, the child inherited nothing.

        Whether it was such a fork.
        """
        since, known = self._late.get(forker, (0, 0))
        late, unknown = since <= ns < known, ns < self._gone.get(forker, 0)
        if not (late or unknown):
            return False
        if not self.register(child, since_ns=ns):
            try:
                os.readlink(f"/proc/{child}/exe")
            except OSError:  # dead: what it forked meanwhile has no stack for the same reason
                if late:
                    _keep(self._late, child, (ns, time.monotonic_ns()))
                else:
                    self.gone(child)
        return True

    def gone(self, pid: int) -> None:
        """One that existed before has ended, and nobody has looked at what it ran."""
        _keep(self._gone, pid, time.monotonic_ns())

    def why_no_stack(self, pid: int, ns: int) -> Optional[str]:
        """Why a process's threads had no stack at `ns`, if it is Python; else None."""
        found = self._unsupported.get(pid)
        if found is not None:
            return f"the stacks of {found.name} are not read: {found.reason}"
        since, known = self._late.get(pid, (0, 0))
        if since <= ns < known:
            return "its interpreter was not known to the probes yet"
        if ns < self._gone.get(pid, 0):
            return "it ended before it was known whether it was Python"
        return None

    def outsider(self, pid: int) -> Optional[str]:
        """Why the stack of a process that is not followed is not known; None: it has none."""
        if pid == os.getpid():
            return None  # attribution knows
        if pid not in self._outsiders:
            found = find_interpreter(pid) if pid else None
            _keep(self._outsiders, pid, found is not None)
        return "this Python is not followed" if self._outsiders[pid] else None

    def read_source(self, lineage: int, file: str) -> Optional[str]:
        """A source file as a living process of that lineage sees it."""
        if machine.pid_namespace() != 0:
            return None  # the table has the kernel's numbers, /proc others
        for tgid, process in self._probes["pythons"].items():
            if process.lineage & 0xFFFFFFFF == lineage:
                text = read_source(file, f"/proc/{tgid.value}/root")
                if text is not None:
                    return text
        return None

    def inherit(self, forker: int, child: int) -> None:
        """A fork of an interpreter that cannot be read cannot either."""
        found = self._unsupported.get(forker)
        if found is not None:
            _keep(self._unsupported, child, found)

    @property
    def any_unsupported(self) -> bool:
        return bool(self._unsupported)

    def _tgid(self, pid: int) -> Optional[int]:
        """The kernel's own number of a followed process; None if it is not followed."""
        if machine.pid_namespace() == 0:
            return pid
        for tgid, life in self._probes["lives"].items():
            if life.pid == pid:
                return int(tgid.value)
        return None

    def _enter(
        self, found: Interpreter, layout: int, tgid: Optional[int], has_children: bool
    ) -> bool:
        """Whether it was not known before."""
        if tgid is None:
            return False
        pythons = self._probes["pythons"]
        key = pythons.Key(tgid)
        with suppress(KeyError):
            pythons[key]  # its uprobe was first, or a fork: those know the lineage
            return False
        now = time.monotonic_ns()
        bias = found.runtime - found.image.runtime
        pythons[key] = pythons.Leaf(
            found.runtime,
            found.code_type,
            found.image.str_type + bias,
            found.image.bytes_type + bias,
            now,
            now,
            layout,
            int(has_children),
            0,
        )
        if has_children:
            forks = self._probes["python_forks"]
            forks[forks.Key(0)] = forks.Leaf(1)
        return True

    def _layout(self, offsets: Offsets) -> Optional[int]:
        """The offsets' index in the table of the probes; None if that is full."""
        index = self._layouts.get(offsets)
        if index is None:
            index = len(self._layouts)
            if index >= _MOST_LAYOUTS:
                return None
            table = self._probes["layouts"]
            table[table.Key(index)] = table.Leaf(*offsets)
            self._layouts[offsets] = index
        return index


def _close(descriptors: Iterable[int]) -> None:
    for each in descriptors:
        os.close(each)


def _keep(table: dict[int, Any], pid: int, value: object) -> None:
    """PIDs come again: the latest of a number counts, and there are not too many."""
    if len(table) >= _MOST_KEPT:
        table.clear()
    table[pid] = value


class Newcomers:
    """Finds interpreters among the programs that are executed, where no uprobe knew them.

    `image_of` is zombiebpf.python.programs' look at a program by its path.
    """

    def __init__(self, pythons: Pythons, image_of: Callable[[str], Optional[Image]]) -> None:
        self._pythons = pythons
        self._image_of = image_of
        self._names: dict[int, tuple[int, bytes]] = {}  # by PID: when, and the pieces so far
        self._is_python: dict[str, bool] = {}  # by the path that was executed
        # PIDs to be tried again, their library is on its way: how often, and when they execed
        self._pending: dict[int, tuple[int, int]] = {}

    def look(self, events: Iterable[Event]) -> None:
        """Take what was executed from a batch of events, which may be empty."""
        for pid in list(self._pending):
            self._try(pid)
        for event in events:
            if not isinstance(event, Text):
                continue
            if event.kind == TextKind.FILENAME:
                ns, name = self._names.get(event.pid, (event.ns, b""))
                name = name if ns == event.ns else b""  # of an exec whose arguments did not come
                self._names[event.pid] = (event.ns, name + event.data)
            elif event.pid in self._names:  # the arguments come next
                ns, name = self._names.pop(event.pid)
                if ns == event.ns:
                    self._executed(event.pid, name, ns)

    def _executed(self, pid: int, name: bytes, ns: int) -> None:
        path = os.fsdecode(name)
        known = self._is_python.get(path)
        if known is None:
            if len(self._is_python) >= _MOST_PATHS:
                self._is_python.clear()
            # a path of another root, or relative to a directory that is not ours: look itself
            known = self._image_of(path) is not None if os.path.isabs(path) else True
            known = known or not os.path.exists(path)
            self._is_python[path] = known
        if known:
            self._pending[pid] = (_TRIES, ns)
            self._try(pid)

    def _try(self, pid: int) -> None:
        tries, ns = self._pending.pop(pid)
        if not self._pythons.register(pid, since_ns=ns) and tries > 1:
            self._pending[pid] = (tries - 1, ns)
