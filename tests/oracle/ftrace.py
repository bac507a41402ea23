# SPDX-License-Identifier: Apache-2.0
"""What the kernel's own tracer saw: raw ftrace, in a tracefs instance of our own.

No BPF, no library: files under /sys/kernel/tracing. The clock is `mono`, the kernel's
CLOCK_MONOTONIC, the same that zombiebpf reports in.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from tests.oracle import sighand
from tests.oracle.ringbuffer import Format, Missed, Value, records

_INSTANCES = Path("/sys/kernel/tracing/instances")
_PREFIX = "zombiebpf-oracle-"
BUFFER_KB = 64 * 1024  # a CPU; the whole machine is traced
EXIT_ZOMBIE = 0x20  # include/linux/sched.h
_DEAD = "prev_state & 0x30"  # EXIT_DEAD or EXIT_ZOMBIE: the last switch of a thread
EVENTS = {  # event: filter
    "task/task_newtask": "",
    "sched/sched_process_fork": "",
    "sched/sched_process_exec": "",
    "sched/sched_process_exit": "",
    "sched/sched_process_free": "",
    "sched/sched_switch": _DEAD,
    "signal/signal_generate": "code >= 1 && code <= 3",
    "kmem/kmem_cache_alloc": "",  # sighand.py says which
    "kmem/kmem_cache_free": "",
    "syscalls/sys_enter_prctl": "option == 36",  # PR_SET_CHILD_SUBREAPER
}


def mount_tracefs() -> None:
    """Mount tracefs where systemd would, if it is not there: containers often lack it."""
    if not _INSTANCES.is_dir():
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(_INSTANCES.parent)], check=True)


class Record(NamedTuple):
    """One event: `tid` is the thread it happened in, `ns` CLOCK_MONOTONIC."""

    ns: int
    name: str
    tid: int
    fields: dict[str, Value]

    def number(self, field: str) -> int:
        """An integer field; 0 where this kernel's event has none such."""
        value = self.fields.get(field, 0)
        assert isinstance(value, int)
        return value


class Instance:
    """A context: a tracefs instance that records EVENTS; gone when it is left.

    OSError if tracefs refuses (not root, no tracefs); Missed if the buffer was too small.
    """

    def __init__(self, name: str) -> None:
        self.path = _INSTANCES / f"{_PREFIX}{os.getpid()}-{name}"

    def __enter__(self) -> Instance:
        _remove_left_over()
        self.path.mkdir()
        try:
            self._write("tracing_on", "0")
            self._write("trace_clock", "mono")
            self._write("buffer_size_kb", str(BUFFER_KB))
            for event, only in {**EVENTS, **sighand.filters(self.path / "events")}.items():
                if only:
                    self._write(f"events/{event}/filter", only)
                self._write(f"events/{event}/enable", "1")
            self._write("tracing_on", "1")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def _remove(self) -> None:
        _remove(self.path)

    def stop(self) -> list[Record]:
        """Stop recording; all records, by time. Missed if any was lost."""
        self._write("tracing_on", "0")
        lost = self._lost()
        if lost:
            raise Missed(f"ftrace lost records: {lost}")
        formats = {}
        for event in EVENTS:
            each = Format(self.path / "events" / event / "format")
            formats[each.id] = (event.split("/")[1], each)
        found = []
        for cpu in sorted((self.path / "per_cpu").iterdir()):
            for page in _pages(cpu / "trace_pipe_raw"):
                for ns, data in records(page):
                    number = int.from_bytes(data[:2], "little")
                    name, layout = formats[number]
                    fields = layout.decode(data)
                    tid = fields["common_pid"]
                    assert isinstance(tid, int)
                    found.append(Record(ns, name, tid, fields))
        found.sort(key=lambda record: record.ns)
        return found

    def _lost(self) -> list[str]:
        lost = []
        for stats in sorted((self.path / "per_cpu").glob("cpu*/stats")):
            for line in stats.read_text().splitlines():
                name, _, count = line.partition(":")
                if name in ("overrun", "commit overrun", "dropped events") and int(count):
                    lost.append(f"{stats.parent.name} {line}")
        return lost


def _remove(instance: Path) -> None:
    (instance / "tracing_on").write_text("0")
    for event in EVENTS:
        (instance / "events" / event / "enable").write_text("0")
    deadline = time.monotonic() + 5
    while True:  # busy while a reader's file is closing
        try:
            instance.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _remove_left_over() -> None:
    """Instances of oracles that were killed before they could tidy up."""
    for instance in _INSTANCES.glob(_PREFIX + "*"):
        owner = instance.name[len(_PREFIX) :].partition("-")[0]
        if not Path("/proc", owner).exists():
            _remove(instance)


class Brackets(NamedTuple):
    """What an instance attached later saw of the same events; keys are the earlier instants."""

    until_ns: dict[int, int]  # -> its instant
    claimed: set[int]  # last switches of zombies that a reaper claimed before the later look


def brackets(earlier: list[Record], later: list[Record]) -> Brackets:
    """Pair the events of two instances.

    A tracepoint calls its handlers in the order they were attached. An instance from before the
    observer's handlers and one from after take each event before and after the observer does.
    """
    latest: dict[tuple[str, int], Record] = {}
    result = Brackets({}, set())
    both = [(each.ns, 0, each) for each in earlier] + [(each.ns, 1, each) for each in later]
    both.sort(key=lambda entry: entry[:2])
    for ns, is_later, record in both:
        thread = record.name, record.tid
        if not is_later:
            latest[thread] = record
        elif thread in latest:  # a thread is in one event at a time
            first = latest.pop(thread)
            result.until_ns[first.ns] = max(ns, result.until_ns.get(first.ns, 0))
            if first.number("prev_state") & EXIT_ZOMBIE > record.number("prev_state") & EXIT_ZOMBIE:
                result.claimed.add(first.ns)
    return result


def _pages(path: Path) -> list[bytes]:
    size = os.sysconf("SC_PAGE_SIZE")
    pages: list[bytes] = []
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                page = os.read(fd, size)
            except BlockingIOError:
                return pages
            if not page:
                return pages
            pages.append(page)
    finally:
        os.close(fd)
