# SPDX-License-Identifier: Apache-2.0
"""What is asked of bpf(2) again, and what of its refusals is kept."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from typing import Any

import pytest

from zombiebpf.bpf import syscall

CODE = bytes(16)


class FakeBpf:
    """bpf(2) that fails with the errors given, in their order, and then succeeds."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)
        self.log_sizes: list[int] = []  # that were asked for
        self.log = b""

    def call(self, command: int, attributes: Any) -> int:
        assert command == 5  # BPF_PROG_LOAD
        self.log_sizes.append(attributes.log_size)
        if attributes.log_buf:
            ctypes.memmove(attributes.log_buf, self.log, len(self.log))
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return 7


def load(monkeypatch: pytest.MonkeyPatch, kernel: FakeBpf, with_log: bool = True) -> int:
    monkeypatch.setattr(syscall, "_call", kernel.call)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    return syscall.load_program("x", syscall.KPROBE, CODE, with_log=with_log)


def test_a_verifier_that_a_signal_interrupted_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = FakeBpf(errno.EAGAIN, errno.EAGAIN)
    assert load(monkeypatch, kernel) == 7
    assert kernel.log_sizes == [0, 0, 0]


def test_it_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeBpf(*[errno.EAGAIN] * 100)
    with pytest.raises(syscall.ProgramError) as caught:
        load(monkeypatch, kernel, with_log=False)
    assert caught.value.errno == errno.EAGAIN
    assert len(kernel.log_sizes) == 5


def test_a_refusal_has_the_verifiers_log(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeBpf(errno.EACCES, errno.ENOSPC, errno.EACCES)
    kernel.log = b"R2 unbounded memory access"
    with pytest.raises(syscall.ProgramError) as caught:
        load(monkeypatch, kernel)
    assert (caught.value.errno, caught.value.log) == (errno.EACCES, "R2 unbounded memory access")
    assert kernel.log_sizes == [0, 4 << 20, 256 << 20]  # a longer one, where it did not fit


def test_a_refusal_without_its_log_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeBpf(errno.EINVAL)
    with pytest.raises(syscall.ProgramError) as caught:
        load(monkeypatch, kernel, with_log=False)
    assert (caught.value.errno, caught.value.log) == (errno.EINVAL, "")
    assert kernel.log_sizes == [0]
