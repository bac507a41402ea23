# SPDX-License-Identifier: Apache-2.0
"""Register the processes that run CPython with the probes, so that these can walk stacks.

A binary yields a template: the distance from its start function to _PyRuntime, and the
offsets of its version. A uprobe on that function registers a process inside BPF before it
runs any Python code. Running processes, and those whose binary was unknown when they
started, are registered from their memory map.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable, Optional, cast

from zombiebpf.bpf.loaded import Probes
from zombiebpf.bpf.uprobes import Uprobes
from zombiebpf.kernel import machine
from zombiebpf.model import wire
from zombiebpf.model.events import Text, TextKind
from zombiebpf.model.wire import Records
from zombiebpf.python.image import Image
from zombiebpf.python.interpreter import Interpreter, Unsupported, find_interpreter
from zombiebpf.python.offsets import Offsets, version_text
from zombiebpf.python.source import read_source

START_BYTES = 64  # of the start function, which identify a binary; probes/python_start.bpf.c
_MAX_LAYOUTS = 64
_MAX_TEMPLATES = 256
_MAX_PIDS = 65536  # in each table
_MAX_PATHS = 4096
_MAX_TRIES = 5  # some 20 ms apart
_PAGE_MASK = 0xFFF
_U64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def fingerprint(image: Image) -> int:
    """Return the key of `templates`: a hash of the function's offset in its page and its code."""
    assert image.init is not None
    value = _mix(0, image.init & _PAGE_MASK)
    for at in range(0, START_BYTES, 8):
        value = _mix(value, int.from_bytes(image.init_bytes[at : at + 8], "little"))
    return value


def _mix(value: int, word: int) -> int:
    """Hash as mix() in probes/python_stack.bpf.c does."""
    value = ((value ^ word) * _GOLDEN) & _U64
    return value ^ value >> 32


class InterpreterRegistry:
    """The interpreters that are registered with the probes."""

    def __init__(self, probes: Probes) -> None:
        """Register with these loaded probes."""
        self._probes = probes
        self._layouts: dict[Offsets, int] = {}
        self._binaries: set[tuple[int, int]] = set()  # with a uprobe: device, inode
        self._uprobes = Uprobes(probes, "on_python_start")
        self._unsupported: dict[int, Unsupported] = {}  # by PID
        # by PID: Python from the first time on, registered at the second, CLOCK_MONOTONIC ns
        self._registered: dict[int, tuple[int, int]] = {}
        self._exited: dict[int, int] = {}  # by PID: exited unread before, CLOCK_MONOTONIC ns
        self._is_python: dict[int, bool] = {}  # by PID, of processes that are not followed
        self.expected: list[str] = []  # versions of binaries that have a uprobe
        self.refused: Optional[str] = None  # why the kernel refuses uprobes

    def expect(self, images: Iterable[Image]) -> None:
        """Place uprobes that register the processes of these binaries before they run Python."""
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
        if identity in self._binaries or len(self._binaries) >= _MAX_TEMPLATES:
            return
        layout = self._layout(image.offsets)
        if layout is None or self.refused is not None:
            return
        self._binaries.add(identity)
        self.expected.append(version_text(image.version) if image.version else "?")
        templates = self._probes["templates"]
        addresses = (image.runtime, image.code_type, image.str_type, image.bytes_type)
        template = templates.Leaf(*(each - image.init for each in addresses), layout, 0)
        templates[templates.Key(fingerprint(image))] = template
        assert image.init_offset is not None
        try:
            self._uprobes.attach(image.path, image.init_offset)
        except OSError as error:
            self.refused = str(error)

    def close(self) -> None:
        """Detach the uprobes, beside what comes next. Closing twice does no harm."""
        self._uprobes.close()

    def register(
        self, pid: int, tgid: Optional[int] = None, has_children: bool = False, since_ns: int = 0
    ) -> bool:
        """Register a running process. Return False if it is not a supported CPython.

        `pid` is its number in /proc, `tgid` that in the initial PID namespace (None: look it
        up), and `since_ns` the time of its exec, CLOCK_MONOTONIC.
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
            _keep(self._registered, pid, (since_ns, time.monotonic_ns()))
        self._expect(found.image)
        return True

    def register_fork(self, forker: int, child: int, ns: int) -> bool:
        """Register the child of a fork at `ns` if its forker was not registered by then.

        The probes did not register such a child. Return whether this was the case.
        """
        since, registered = self._registered.get(forker, (0, 0))
        late = since <= ns < registered
        if not late and ns >= self._exited.get(forker, 0):
            return False
        if not self.register(child, since_ns=ns) and _is_over(child):
            # what it forked has no stack for the same reason
            if late:
                _keep(self._registered, child, (ns, time.monotonic_ns()))
            else:
                self.note_exited(child)
        return True

    def note_exited(self, pid: int) -> None:
        """Note that a process has exited before anything read whether it was Python."""
        _keep(self._exited, pid, time.monotonic_ns())

    def why_no_stack(self, pid: int, ns: int) -> Optional[str]:
        """Return why the threads of a Python process had no stack at `ns`; None: no such reason."""
        found = self._unsupported.get(pid)
        if found is not None:
            return f"the stacks of {found.name} are not read: {found.reason}"
        since, registered = self._registered.get(pid, (0, 0))
        if since <= ns < registered:
            return "its interpreter was not known to the probes yet"
        if ns < self._exited.get(pid, 0):
            return "it ended before it was known whether it was Python"
        return None

    def why_unfollowed(self, pid: int) -> Optional[str]:
        """Return why a process that is not followed has no stack; None if it is not Python."""
        if pid == os.getpid():
            return None  # attribution knows the observer
        if pid not in self._is_python:
            found = find_interpreter(pid) if pid else None
            _keep(self._is_python, pid, found is not None)
        return "this Python is not followed" if self._is_python[pid] else None

    def read_source(self, lineage: int, file: str) -> Optional[str]:
        """Return a source file as a running process of the lineage sees it; None if there is none.

        A lineage is a registered process and all its forks.
        """
        if machine.pid_namespace() != 0:
            return None  # the table's PIDs are not those of /proc
        for tgid, process in self._probes["pythons"].items():
            if process.lineage & 0xFFFFFFFF == lineage:
                text = read_source(file, f"/proc/{tgid.value}/root")
                if text is not None:
                    return text
        return None

    def inherit(self, forker: int, child: int) -> None:
        """Mark the child of an unsupported interpreter as unsupported."""
        found = self._unsupported.get(forker)
        if found is not None:
            _keep(self._unsupported, child, found)

    @property
    def any_unread(self) -> bool:
        """Whether why_no_stack() has a reason for any process."""
        return bool(self._unsupported or self._registered or self._exited)

    @property
    def any_unsupported(self) -> bool:
        """Whether an unsupported interpreter was found."""
        return bool(self._unsupported)

    def _tgid(self, pid: int) -> Optional[int]:
        """Return the PID of a followed process in the initial namespace; None: not followed."""
        if machine.pid_namespace() == 0:
            return pid
        for tgid, life in self._probes["lives"].items():
            if life.pid == pid:
                return int(tgid.value)
        return None

    def _enter(
        self, found: Interpreter, layout: int, tgid: Optional[int], has_children: bool
    ) -> bool:
        """Add a process to the probes' table. Return False if it is there or has no `tgid`."""
        if tgid is None:
            return False
        pythons = self._probes["pythons"]
        key = pythons.Key(tgid)
        with suppress(KeyError):
            pythons[key]  # registered by a uprobe or a fork, with its lineage
            return False
        now = time.monotonic_ns()
        bias = found.runtime - found.image.runtime
        known = self._probes["any_python"]
        known[known.Key(0)] = known.Leaf(1)
        pythons[key] = pythons.Leaf(
            found.runtime, found.code_type, found.image.str_type + bias,
            found.image.bytes_type + bias, now, now, layout, int(has_children), 0,
        )  # fmt: skip
        if has_children:
            forks = self._probes["python_forks"]
            forks[forks.Key(0)] = forks.Leaf(1)
        return True

    def _layout(self, offsets: Offsets) -> Optional[int]:
        """Return the index of offsets in the probes' table; None if that is full."""
        index = self._layouts.get(offsets)
        if index is None:
            index = len(self._layouts)
            if index >= _MAX_LAYOUTS:
                return None
            table = self._probes["layouts"]
            table[table.Key(index)] = table.Leaf(*offsets)
            self._layouts[offsets] = index
        return index


def _is_over(pid: int) -> bool:
    """Return whether a process has no program any more: it is a zombie, or gone."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return True
    return False


def _keep(table: dict[int, Any], pid: int, value: object) -> None:
    """Set an entry of a bounded table; a PID that is used again replaces the earlier one."""
    if len(table) >= _MAX_PIDS:
        table.clear()
    table[pid] = value


class InterpreterDiscovery:
    """Register interpreters that have no uprobe, when they are executed."""

    def __init__(
        self, pythons: InterpreterRegistry, image_of: Callable[[str], Optional[Image]]
    ) -> None:
        """Take the image of a program from `image_of` (python.programs.image_of_program)."""
        self._pythons = pythons
        self._image_of = image_of
        self._names: dict[int, tuple[int, bytes]] = {}  # by PID: exec time, path so far
        self._is_python: dict[str, bool] = {}  # by path
        # by PID, of those whose libpython may not be mapped yet: tries left, exec time
        self._pending: dict[int, tuple[int, int]] = {}

    def look(self, records: Records) -> bool:
        """Register the interpreters that a batch of records executed; retry earlier ones.

        Return whether a program was executed that was not known, or an interpreter may
        still come: the next look had better be soon.
        """
        known = len(self._is_python)
        for pid in list(self._pending):
            self._try(pid)
        for each in records.events(wire.TEXT):
            event = cast(Text, each)
            if event.kind == TextKind.FILENAME:
                ns, name = self._names.get(event.pid, (event.ns, b""))
                name = name if ns == event.ns else b""  # an earlier exec lacks its arguments
                self._names[event.pid] = (event.ns, name + event.piece)
            elif event.pid in self._names:  # the arguments come next
                ns, name = self._names.pop(event.pid)
                if ns == event.ns:
                    self._executed(event.pid, name, ns)
        return bool(self._pending) or len(self._is_python) != known

    def _executed(self, pid: int, name: bytes, ns: int) -> None:
        path = os.fsdecode(name)
        known = self._is_python.get(path)
        if known is None:
            if len(self._is_python) >= _MAX_PATHS:
                self._is_python.clear()
            # a path that is relative or of another root: read the process's memory map
            known = self._image_of(path) is not None if os.path.isabs(path) else True
            known = known or not os.path.exists(path)
            self._is_python[path] = known
        if known:
            self._pending[pid] = (_MAX_TRIES, ns)
            self._try(pid)

    def _try(self, pid: int) -> None:
        tries, ns = self._pending.pop(pid)
        if self._pythons.register(pid, since_ns=ns):
            return
        if _is_over(pid):
            self._pythons.note_exited(pid)  # what it forked has no stack for that reason
        if tries > 1:
            self._pending[pid] = (tries - 1, ns)
