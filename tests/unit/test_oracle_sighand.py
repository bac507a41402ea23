# SPDX-License-Identifier: Apache-2.0
"""The oracle's filter for what belongs to a process: by name, else by size and caller."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oracle import sighand

SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
signal_cache         165    168   1152   28    8 : tunables    0    0    0
sighand_cache        150    150   2112   15    8 : tunables    0    0    0
"""
KALLSYMS = """0000000000000000 A fixed_percpu_data
ffffffff81000200 T do_exit
ffffffff81000000 T __cleanup_sighand
ffffffff81000100 T release_task
ffffffffc0000000 t helper\t[module]
"""
NAMED = "\tfield:__data_loc char[] name;\toffset:24;\tsize:4;\tsigned:0;\n"


def events(place: Path, alloc: str, free: str) -> Path:
    for name, text in (("kmem_cache_alloc", alloc), ("kmem_cache_free", free)):
        (place / "kmem" / name).mkdir(parents=True)
        (place / "kmem" / name / "format").write_text(text)
    return place


def test_by_name_where_the_event_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slabinfo").write_text(SLABINFO)
    monkeypatch.setattr(sighand, "_SLABINFO", tmp_path / "slabinfo")
    assert sighand.filters(events(tmp_path, "", NAMED)) == {
        "kmem/kmem_cache_alloc": "bytes_alloc == 2112",
        "kmem/kmem_cache_free": 'name == "sighand_cache"',
    }


def test_by_callers() -> None:
    assert sighand.callers(KALLSYMS, ["__cleanup_sighand", "release_task", "gone"]) == (
        "(call_site >= 0xffffffff81000000 && call_site < 0xffffffff81000100)"
        " || (call_site >= 0xffffffff81000100 && call_site < 0xffffffff81000200)"
    )


def test_hidden_addresses_are_an_error_with_its_cure() -> None:
    hidden = "0000000000000000 T release_task\n0000000000000000 T do_exit\n"
    with pytest.raises(ValueError, match="kptr_restrict"):
        sighand.callers(hidden, ["release_task"])


def test_a_kernel_without_the_cache_is_an_error() -> None:
    with pytest.raises(ValueError, match="sighand_cache"):
        sighand.object_size("slabinfo - version: 2.1\n")
