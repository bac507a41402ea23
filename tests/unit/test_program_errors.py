# SPDX-License-Identifier: Apache-2.0
"""What libbcc prints and raises -> one line: recorded from bcc 0.26 on Linux 6.18."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest

from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import program
from zombiebpf.kernel.layout import Layout

COMPILE_FAILED = "Failed to compile BPF module <text>"
VERIFIER = """\
bpf: Failed to load program: {}
0: R1=ctx() R10=fp0
0: (79) r1 = *(u64 *)(r1 +0)          ; R1=scalar()
; while (i < n) {{ @ main.c:7
2: (05) goto pc-1
infinite loop detected at insn 2
cur state: R1=scalar(umin=1) R10=fp0
old state: R1=scalar(umin=1) R10=fp0
processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0

"""
CLANG = """\
exit.bpf.c:84:85: error: no member named 'argsx' in 'struct bpf_raw_tracepoint_args'
  int *p=(int*)ctx->argsx[0];
                    ^~~~~
1 error generated.
"""
ATTACH_FAILED = "Failed to attach BPF to raw tracepoint"
ATTACH = "bpf_attach_raw_tracepoint (sched_switch): {}\n"


class FakeBpf:
    """bcc.BPF, failing as it was told to: (method, printed, raised)."""

    RAW_TRACEPOINT = 17
    failure: tuple[str, str, str] = ("", "", "")

    def __init__(self, **_: Any) -> None:
        self._fail("compile")

    def load_func(self, *_: Any) -> None:
        self._fail("load")

    def attach_raw_tracepoint(self, **_: Any) -> None:
        self._fail("attach")

    def _fail(self, method: str) -> None:
        where, printed, raised = self.failure
        if where == method:
            os.write(2, printed.encode())
            raise Exception(raised)


Load = Callable[[str, str, str], ZombiebpfError]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Load:
    """What load() raises when bcc fails like this; that it prints nothing."""
    monkeypatch.setattr(program, "import_bcc", lambda: SimpleNamespace(BPF=FakeBpf))
    monkeypatch.setenv("BCC_KERNEL_SOURCE", "/own")

    def failing(method: str, printed: str, raised: str) -> ZombiebpfError:
        monkeypatch.setattr(FakeBpf, "failure", (method, printed, raised))
        with pytest.raises(ZombiebpfError) as caught:
            program.load("", Layout("", {}, "BTF"), ["sched_switch"])
        assert capfd.readouterr() == ("", "")
        assert os.environ["BCC_KERNEL_SOURCE"] == "/own"
        return caught.value

    return failing


@pytest.mark.parametrize(
    ("method", "printed", "raised", "what"),
    [
        (
            "compile",
            "could not open bpf map: waits, error: Operation not permitted\n",
            COMPILE_FAILED,
            "the kernel refuses to create the BPF map waits: Operation not permitted",
        ),
        (
            "load",
            "bpf: Failed to load program: Operation not permitted\n\n",
            "Need super-user privileges to run",
            "the kernel refuses to load the probe of sched_switch: Operation not permitted",
        ),
        (
            "attach",
            ATTACH.format("Permission denied"),
            ATTACH_FAILED,
            "the kernel refuses to attach the probe of sched_switch: Permission denied",
        ),
    ],
)
def test_no_privilege(method: str, printed: str, raised: str, what: str, load: Load) -> None:
    error = load(method, printed, raised)
    assert isinstance(error, PrivilegeError)
    assert error.what == what
    assert "privileged container" in str(error.cure)


@pytest.mark.parametrize(
    ("method", "printed", "raised", "what"),
    [
        (
            "compile",
            CLANG,
            COMPILE_FAILED,
            "the probes do not compile: exit.bpf.c:84:85: error: no member named 'argsx' "
            "in 'struct bpf_raw_tracepoint_args'",
        ),
        (
            "compile",
            "fatal error: 'linux/sched.h' file not found\n",
            COMPILE_FAILED,
            "the probes do not compile: fatal error: 'linux/sched.h' file not found",
        ),
        (
            "compile",
            "one\nanother\n",
            COMPILE_FAILED,
            "the probes do not compile: another",
        ),
        ("compile", "", COMPILE_FAILED, f"the probes do not compile: {COMPILE_FAILED}"),
        (
            "compile",
            "chdir(/lib/modules/6.1.0/build): No such file or directory\n",
            "Unable to find kernel headers. Try rebuilding kernel with CONFIG_IKHEADERS=m",
            "this kernel has no BTF and its headers are not installed",
        ),
        (
            "compile",
            "could not open bpf map: waits, error: Cannot allocate memory\n",
            COMPILE_FAILED,
            "the kernel refuses to create the BPF map waits: Cannot allocate memory",
        ),
        (
            "load",
            VERIFIER.format("Invalid argument"),
            "Failed to load BPF program b'on_sched_switch': Invalid argument",
            "the kernel's verifier refuses the probe of sched_switch: "
            "infinite loop detected at insn 2",
        ),
        (
            "load",
            VERIFIER.format("Permission denied"),
            "Failed to load BPF program b'on_sched_switch': Permission denied",
            "the kernel's verifier refuses the probe of sched_switch: "
            "infinite loop detected at insn 2",
        ),
        (
            "load",
            "",
            "Failed to load BPF program b'on_sched_switch': Argument list too long",
            "the kernel refuses to load the probe of sched_switch: "
            "Failed to load BPF program b'on_sched_switch': Argument list too long",
        ),
        (
            "attach",
            ATTACH.format("No such file or directory"),
            ATTACH_FAILED,
            "this kernel has no tracepoint sched_switch",
        ),
        (
            "attach",
            ATTACH.format("Device or resource busy"),
            ATTACH_FAILED,
            "the kernel refuses to attach the probe of sched_switch: Device or resource busy",
        ),
    ],
)
def test_other_failures(method: str, printed: str, raised: str, what: str, load: Load) -> None:
    error = load(method, printed, raised)
    assert error.exit_code == 70
    assert error.what == what
    assert error.cure


def test_no_room_for_temporary_files(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program.headers, "write_stubs", full)
    error = load("", "", "")
    assert error.what == "temporary files cannot be written: No space left on device"
    assert "TMPDIR" in str(error.cure)


def test_the_sources_are_found() -> None:
    assert (program.probes_directory() / "wire.h").is_file()
    text = program.source(Layout("struct x;", {"A": "1"}, "BTF"), {"B": "2"})
    assert text.startswith('#define A 1\n#define B 2\n#line 1 "layout.h"\nstruct x;\n')
    assert [text.count(f'#line 1 "{name}"') for name in program.SOURCES] == [1] * len(
        program.SOURCES
    )
    assert sys.getsizeof(text) > 1000
