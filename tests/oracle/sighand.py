# SPDX-License-Identifier: Apache-2.0
"""Which of the machine's slab allocations and frees are those of a sighand_struct?

Newer kernels' events have the cache's name. Where they do not, an allocation is known by its size,
and a free by who calls it; that its object is one that was allocated so, ftrace_lives.py checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

NAME = "sighand_cache"
_KALLSYMS = Path("/proc/kallsyms")
_SLABINFO = Path("/proc/slabinfo")
# Who frees it where __cleanup_sighand() (kernel/fork.c) is inlined, and where it is not.
_FREEING = ("__cleanup_sighand", "release_task", "copy_process")


def filters(events: Path) -> dict[str, str]:
    """For ftrace, by event; `events` is the directory of an instance.

    Raise ValueError if this kernel gives no way to decide.
    """
    alloc, free = "kmem/kmem_cache_alloc", "kmem/kmem_cache_free"
    return {
        alloc: _by_name(events / alloc) or f"bytes_alloc == {object_size(_SLABINFO.read_text())}",
        free: _by_name(events / free) or callers(_KALLSYMS.read_text(), _FREEING),
    }


def _by_name(event: Path) -> str:
    """Return the filter by name; empty if the event has no name."""
    return f'name == "{NAME}"' if " name;" in (event / "format").read_text() else ""


def object_size(slabinfo: str) -> int:
    """Of the cache, with its padding: what the event calls bytes_alloc."""
    for line in slabinfo.splitlines():
        name, *numbers = line.split()
        if name == NAME:
            return int(numbers[2])
    raise ValueError(f"/proc/slabinfo has no {NAME}")


def callers(kallsyms: str, functions: Sequence[str]) -> str:
    """A call from within one of the functions."""
    wanted = [
        f"(call_site >= {start:#x} && call_site < {end:#x})"
        for name, start, end in _ranges(kallsyms)
        if name in functions
    ]
    if not wanted:
        raise ValueError("/proc/kallsyms tells no addresses: sysctl kernel.kptr_restrict=1")
    return " || ".join(wanted)


def _ranges(kallsyms: str) -> Iterator[tuple[str, int, int]]:
    """(name, begin, end) of the kernel's own functions."""
    words = (line.split() for line in kallsyms.splitlines())
    starts = sorted((int(each[0], 16), each[2]) for each in words if len(each) == 3)
    for (start, name), (end, _) in zip(starts, starts[1:]):
        if start and start < end:
            yield name, start, end
