# SPDX-License-Identifier: Apache-2.0
"""What libbcc prints and raises -> one line: recorded from bcc 0.26 on Linux 6.18."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, ClassVar

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


class FakeTable:
    """A table of bcc, kept in a dict."""

    Key = Leaf = int

    def __init__(self, kept: dict[int, int]) -> None:
        self._kept = kept

    def __setitem__(self, key: int, leaf: int) -> None:
        self._kept[key] = leaf


class FakeBpf:
    """bcc.BPF, failing as it was told to: (method, printed, raised)."""

    RAW_TRACEPOINT = 17
    failure: tuple[str, str, str] = ("", "", "")
    loaded: ClassVar[list[str]] = []
    stages: ClassVar[dict[int, int]] = {}
    attached: ClassVar[list[str]] = []

    def __init__(self, **_: Any) -> None:
        self.raw_tracepoint_fds: dict[bytes, int] = {}
        for kept in (self.loaded, self.stages, self.attached):
            kept.clear()
        self._fail("compile")

    def load_func(self, name: str, kind: int) -> SimpleNamespace:
        assert kind == self.RAW_TRACEPOINT
        self._fail("load stages" if name.startswith("stage_") else "load")
        self.loaded.append(name)
        return SimpleNamespace(fd=100 + len(self.loaded))

    def __getitem__(self, name: str) -> FakeTable:
        assert name == "stages"
        self._fail("fill stages")
        return FakeTable(self.stages)

    def attach_raw_tracepoint(self, tp: bytes, fn_name: bytes) -> None:
        self._fail("attach")
        assert fn_name == b"on_" + tp
        self.attached.append(fn_name.decode())

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


@pytest.mark.parametrize(
    ("method", "printed", "raised", "what"),
    [
        (
            "load stages",
            VERIFIER.format("Invalid argument"),
            "Failed to load BPF program b'stage_find': Invalid argument",
            "the kernel's verifier refuses the probe of Python's stacks: "
            "infinite loop detected at insn 2",
        ),
        (
            "fill stages",
            "",
            "Could not update table: Invalid argument",
            "the kernel refuses to load the probe of Python's stacks: "
            "Could not update table: Invalid argument",
        ),
    ],
)
def test_stacks_that_cannot_be(
    method: str, printed: str, raised: str, what: str, load: Load
) -> None:
    assert load(method, printed, raised).what == what


@pytest.fixture
def libbcc(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Tracepoint -> the descriptor that libbcc gives for it, -1 where it is not there."""
    descriptors = {"sched_process_fork": 70, "sched_process_exit": 71, "missing": -1}

    def attach(fd: int, name: bytes) -> int:
        assert FakeBpf.attached == [], "it must run before those of the tracepoints"
        assert fd > 100
        return descriptors[name.decode()]

    lib = SimpleNamespace(bpf_attach_raw_tracepoint=attach)
    bcc = SimpleNamespace(BPF=FakeBpf, libbcc=SimpleNamespace(lib=lib))
    monkeypatch.setattr(program, "import_bcc", lambda: bcc)
    monkeypatch.setattr(FakeBpf, "failure", ("", "", ""))
    return descriptors


def test_the_order_of_what_is_loaded_and_attached(libbcc: dict[str, int]) -> None:
    before = [("on_first", "sched_process_fork"), ("on_second", "sched_process_exit")]
    bpf = program.load("", Layout("", {}, "BTF"), ["sched_switch", "sched_process_fork"], before)
    assert FakeBpf.loaded == [
        "on_sched_switch",
        "on_sched_process_fork",
        *program.STAGES,
        "on_first",
        "on_second",
    ]
    # a stage's number is its index in STAGES, as probes/python.h has them
    assert FakeBpf.stages == {0: 103, 1: 104, 2: 105}
    assert FakeBpf.attached == ["on_sched_switch", "on_sched_process_fork"]
    assert bpf.raw_tracepoint_fds == {b"on_first": 70, b"on_second": 71}


def test_what_must_come_before_cannot_be_attached(libbcc: dict[str, int]) -> None:
    with pytest.raises(ZombiebpfError) as caught:
        program.load("", Layout("", {}, "BTF"), ["sched_switch"], [("on_first", "missing")])
    assert caught.value.what == (
        "the kernel refuses to load the probe of missing: tracepoint missing cannot be attached to"
    )
    assert FakeBpf.attached == []


def test_the_stages_numbers_are_those_of_the_probes() -> None:
    header = (program.probes_directory() / "python.h").read_text(encoding="utf-8")
    declared = re.findall(r"^#define (STAGE_\w+) (\d+)$", header, re.M)
    assert declared == [(name.upper(), str(number)) for number, name in enumerate(program.STAGES)]
    assert f"BPF_PROG_ARRAY(stages, {len(program.STAGES)});" in header


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
