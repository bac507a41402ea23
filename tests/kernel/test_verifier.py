# SPDX-License-Identifier: Apache-2.0
"""What the verifier has to check before the probes are loaded: a start waits for it."""

from __future__ import annotations

import ctypes
import re

import pytest

from zombiebpf.bpf import syscall
from zombiebpf.kernel.observer import Observer

PROG_LOAD = 5
STATISTICS = 4  # log_level: BPF_LOG_STATS
MOST_INSTRUCTIONS = 40_000  # some 1 us each
MOST_IN_ALL = 150_000


def test_no_program_takes_long_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: dict[str, int] = {}
    call = syscall._call

    def count(command: int, attributes: ctypes.Structure) -> int:
        if command != PROG_LOAD:
            return call(command, attributes)
        log = ctypes.create_string_buffer(1 << 16)
        attributes.log_level, attributes.log_size = STATISTICS, len(log)
        attributes.log_buf = ctypes.addressof(log)
        descriptor = call(command, attributes)
        found = re.search(rb"processed (\d+) insns", log.value)
        assert found, log.value
        name = attributes.prog_name.decode()
        checked[name] = max(checked.get(name, 0), int(found[1]))
        return descriptor

    monkeypatch.setattr(syscall, "_call", count)
    with Observer.attach(selecting=True):
        pass
    assert {"zb_stage_walk", "zb_stage_send", "zb_scan_step", "zb_signal_gener"} < checked.keys()
    print(sorted(checked.items(), key=lambda each: -each[1]))
    assert max(checked.values()) <= MOST_INSTRUCTIONS, checked
    assert sum(checked.values()) <= MOST_IN_ALL, checked
