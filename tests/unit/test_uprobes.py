# SPDX-License-Identifier: Apache-2.0
"""Uprobes are links where the kernel has them, else perf events; closing detaches every one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Optional, cast

import pytest

from zombiebpf.bpf import perf_events, syscall
from zombiebpf.bpf.loaded import Probes
from zombiebpf.bpf.uprobes import Uprobes


class FakeKernel:
    """Pipes as descriptors: what was attached by which call, and what is still open."""

    def __init__(self) -> None:
        self.loaded: dict[int, int] = {}  # program -> attach type
        self.links: dict[int, tuple[str, int]] = {}
        self.events: dict[int, tuple[str, int]] = {}
        self.refused_load: Optional[int] = None  # attach type
        self.refused_links: Optional[int] = None  # errno
        self.refused_paths: set[str] = set()

    def load_again(self, name: str, kind: int, attach_type: int = 0) -> int:
        assert (name, kind) == ("on_start", syscall.KPROBE)
        if attach_type == self.refused_load:
            raise syscall.ProgramError(errno.EINVAL, "")
        program = _descriptor()
        self.loaded[program] = attach_type
        return program

    def link(self, program: int, path: str, offset: int) -> int:
        os.fstat(program)
        assert self.loaded[program] == 48
        if self.refused_links is not None:
            raise OSError(self.refused_links, "refused")
        return self._attach(self.links, path, offset)

    def event(self, program: int, path: str, offset: int) -> int:
        os.fstat(program)
        assert self.loaded[program] == 0
        return self._attach(self.events, path, offset)

    def _attach(self, to: dict[int, tuple[str, int]], path: str, offset: int) -> int:
        if path in self.refused_paths:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        descriptor = _descriptor()
        to[descriptor] = path, offset
        return descriptor

    @property
    def open(self) -> set[int]:
        return {each for each in {*self.loaded, *self.links, *self.events} if _is_open(each)}


def _descriptor() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(syscall, "link_uprobe", fake.link)
    monkeypatch.setattr(perf_events, "attach_uprobe", fake.event)
    return fake


def uprobes(kernel: FakeKernel) -> Uprobes:
    return Uprobes(cast(Probes, kernel), "on_start")


def close_and_wait(close: Callable[[], None]) -> int:
    """Return in how many threads it closes."""
    before = set(threading.enumerate())
    close()
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(10)
    return len(started)


def test_links_share_one_program(kernel: FakeKernel) -> None:
    made = uprobes(kernel)
    assert kernel.loaded == {}
    made.attach("/python3", 0x10)
    made.attach("/libpython3.so", 0x20)
    assert list(kernel.links.values()) == [("/python3", 0x10), ("/libpython3.so", 0x20)]
    assert list(kernel.loaded.values()) == [48]
    close_and_wait(made.close)
    assert kernel.open == set()
    assert close_and_wait(made.close) == 0


@pytest.mark.parametrize("refused", ["load", "link"])
def test_a_kernel_without_links(kernel: FakeKernel, refused: str) -> None:
    """Older kernels refuse the link, or already the program's attach type."""
    if refused == "load":
        kernel.refused_load = 48
    else:
        kernel.refused_links = errno.EINVAL
    made = uprobes(kernel)
    for at in range(3):
        made.attach("/python3", at)
    assert list(kernel.events.values()) == [("/python3", at) for at in range(3)]
    assert kernel.links == {}
    assert len(kernel.open) == 4  # and one program
    close_and_wait(made.close)
    assert kernel.open == set()


def test_a_file_that_is_refused_leaves_the_others_attached(kernel: FakeKernel) -> None:
    made = uprobes(kernel)
    made.attach("/python3", 1)
    kernel.refused_paths = {"/gone"}
    with pytest.raises(FileNotFoundError):
        made.attach("/gone", 1)
    assert kernel.events == {}
    made.attach("/other", 1)
    assert len(kernel.links) == 2
    close_and_wait(made.close)
    assert kernel.open == set()


def test_a_first_file_that_is_refused(kernel: FakeKernel) -> None:
    made = uprobes(kernel)
    kernel.refused_paths = {"/gone"}
    with pytest.raises(FileNotFoundError):
        made.attach("/gone", 1)
    made.attach("/python3", 1)
    close_and_wait(made.close)
    assert kernel.open == set()


def test_many_are_closed_by_few_threads(kernel: FakeKernel) -> None:
    made = uprobes(kernel)
    for at in range(100):
        made.attach("/python3", at)
    assert close_and_wait(made.close) <= 16
    assert kernel.open == set()


def test_without_threads_they_are_closed_at_once(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where pids.max of the cgroup allows none."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = uprobes(kernel)
    for at in range(20):
        made.attach("/python3", at)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    made.close()
    assert kernel.open == set()
