# SPDX-License-Identifier: Apache-2.0
"""What bpf(2), clang and libbcc say -> one line: recorded from bcc 0.26 on Linux 6.18."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Optional

import pytest

from zombiebpf.bpf import syscall
from zombiebpf.bpf.compiled import Compiled, Map
from zombiebpf.bpf.loaded import MapError, Probes
from zombiebpf.errors import PrivilegeError, ZombiebpfError
from zombiebpf.kernel import cache, compiler, program
from zombiebpf.kernel.compiler import failure as compile_failure
from zombiebpf.kernel.layout import Layout
from zombiebpf.kernel.program import NotCompiledError

COMPILE_FAILED = "Failed to compile BPF module <text>"
VERIFIER = """\
0: R1=ctx() R10=fp0
0: (79) r1 = *(u64 *)(r1 +0)          ; R1=scalar()
; while (i < n) { @ main.c:7
2: (05) goto pc-1
infinite loop detected at insn 2
cur state: R1=scalar(umin=1) R10=fp0
old state: R1=scalar(umin=1) R10=fp0
processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0

"""
REGISTER = """\
102: (57) r1 &= -8                    ; R1_w=scalar(smax=9223372036854775800)
103: (7b) *(u64 *)(r2 +224) = r1
R2 unbounded memory access, make sure to bounds check any such access
 R0_w=inv(id=0) R1=ctx(id=0,off=0,imm=0) R10=fp0
processed 758 insns (limit 1000000) max_states_per_insn 3 total_states 27
"""
CLANG = """\
exit.bpf.c:84:85: error: no member named 'argsx' in 'struct bpf_raw_tracepoint_args'
  int *p=(int*)ctx->argsx[0];
                    ^~~~~
1 error generated.
"""


class FakeKernel:
    """bpf(2), failing as it was told to. `done` is what it was asked for, in order."""

    def __init__(self) -> None:
        self.failing: Optional[tuple[str, OSError]] = None
        self.done: list[tuple[str, str]] = []
        self.stages: dict[int, int] = {}
        self.open: set[int] = set()

    def create_map(self, name: str, shape: syscall.MapShape) -> int:
        return self._do("map", name)

    def load_program(
        self, name: str, kind: int, code: bytes, attach_type: int, attach_btf_id: int
    ) -> int:
        assert (kind, attach_type, attach_btf_id) == (syscall.RAW_TRACEPOINT, 0, 0)
        return self._do("stage" if name.startswith("zb_stage_") else "load", name)

    def open_raw_tracepoint(self, program: int, name: str) -> int:
        assert program in self.open
        return self._do("attach", name)

    def update(self, descriptor: int, key: ctypes.c_uint, value: ctypes.c_uint) -> None:
        assert descriptor in self.open
        os.close(self._do("fill stages", ""))
        self.stages[key.value] = value.value

    def _do(self, what: str, name: str) -> int:
        if self.failing is not None and self.failing[0] == what:
            raise self.failing[1]
        self.done.append((what, name))
        descriptor = os.open(os.devnull, os.O_RDONLY)
        self.open.add(descriptor)
        return descriptor


WORD = '"unsigned int"'
COMPILED = Compiled(
    {"waits": Map(syscall.MapShape(9, 4, 80, 16384, 0), WORD, ""),
     "stages": Map(syscall.MapShape(3, 4, 4, 3, 0), WORD, WORD)},
    {name: bytes(16) for name in ("on_sched_switch", "on_sched_process_fork", "on_first",
                                  "on_second", *program.STAGES)},
)  # fmt: skip


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    made = FakeKernel()
    for name in ("create_map", "load_program", "open_raw_tracepoint", "update"):
        monkeypatch.setattr(syscall, name, getattr(made, name))
    monkeypatch.setattr(program, "compile_probes", lambda text, layout: COMPILED)
    monkeypatch.setattr(compiler, "inputs", lambda text: [b"input"])
    monkeypatch.setattr(cache, "name_of", lambda kind, parts: "name")
    monkeypatch.setattr(cache, "find", lambda name: None)
    monkeypatch.setattr(cache, "keep", lambda name, data: None)
    return made


def load(
    tracepoints: Sequence[str] = ("sched_switch",), before: Sequence[tuple[str, str]] = ()
) -> Probes:
    return program.load("", Layout("", {}, "BTF"), tracepoints, before)


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("where", "error", "what"),
    [
        ("map", failure(errno.EPERM),
         "the kernel refuses to create the BPF map waits: Operation not permitted"),
        ("load", syscall.ProgramError(errno.EPERM, ""),
         "the kernel refuses to load the probe of sched_switch: Operation not permitted"),
        ("attach", failure(errno.EACCES),
         "the kernel refuses to attach the probe of sched_switch: Permission denied"),
    ],
)  # fmt: skip
def test_no_privilege(where: str, error: OSError, what: str, kernel: FakeKernel) -> None:
    kernel.failing = where, error
    with pytest.raises(PrivilegeError) as caught:
        load()
    assert caught.value.what == what
    assert "privileged container" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("where", "error", "what"),
    [
        ("map", failure(errno.ENOMEM),
         "the kernel refuses to create the BPF map waits: Cannot allocate memory"),
        ("load", syscall.ProgramError(errno.EINVAL, VERIFIER),
         "the kernel's verifier refuses the probe of sched_switch: "
         "infinite loop detected at insn 2"),
        ("load", syscall.ProgramError(errno.EACCES, VERIFIER),
         "the kernel's verifier refuses the probe of sched_switch: "
         "infinite loop detected at insn 2"),
        ("load", syscall.ProgramError(errno.E2BIG, ""),
         "the kernel refuses to load the probe of sched_switch: Argument list too long"),
        ("stage", syscall.ProgramError(errno.EINVAL, VERIFIER),
         "the kernel's verifier refuses the probe of Python's stacks: "
         "infinite loop detected at insn 2"),
        ("stage", syscall.ProgramError(errno.EACCES, REGISTER),
         "the kernel's verifier refuses the probe of Python's stacks: "
         "R2 unbounded memory access, make sure to bounds check any such access"),
        ("fill stages", failure(errno.EINVAL),
         "the kernel refuses to load the probe of Python's stacks: Invalid argument"),
        ("attach", failure(errno.ENOENT), "this kernel has no tracepoint sched_switch"),
        ("attach", failure(errno.EBUSY),
         "the kernel refuses to attach the probe of sched_switch: Device or resource busy"),
    ],
)  # fmt: skip
def test_other_refusals(where: str, error: OSError, what: str, kernel: FakeKernel) -> None:
    kernel.failing = where, error
    with pytest.raises(ZombiebpfError) as caught:
        load()
    assert (caught.value.exit_code, caught.value.what) == (70, what)
    assert caught.value.fix
    for descriptor in kernel.open:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize(
    ("number", "kind", "fix"),
    [
        (errno.EPERM, PrivilegeError, "privileged container"),
        (errno.EACCES, PrivilegeError, "privileged container"),
        (errno.ENOMEM, ZombiebpfError, "memory limit"),
        (errno.EINVAL, ZombiebpfError, "zombiebpf doctor"),
    ],
)
@pytest.mark.parametrize("where", ["map", "load", "attach"])
def test_a_refusal_is_known_by_its_errno(
    where: str, number: int, kind: type[ZombiebpfError], fix: str, kernel: FakeKernel
) -> None:
    """Not by its words, which here are those of another."""
    error = OSError(number, "Cannot allocate memory: denied, not permitted")
    kernel.failing = where, error
    with pytest.raises(ZombiebpfError) as caught:
        load()
    assert type(caught.value) is kind
    assert fix in str(caught.value.fix)
    assert str(caught.value.what).endswith(": Cannot allocate memory: denied, not permitted")


def test_a_map_is_refused_while_bcc_compiles() -> None:
    for number in (errno.EPERM, errno.ENOMEM, errno.E2BIG):
        line = f"could not open bpf map: waits, error: {os.strerror(number)}\n"
        found = compile_failure(COMPILE_FAILED, line)
        assert isinstance(found, MapError)
        assert (found.name, found.errno) == ("waits", number)


@pytest.mark.parametrize(
    ("printed", "raised", "what", "kind"),
    [
        ("could not open bpf map: waits, error: Operation not permitted\n", COMPILE_FAILED,
         "the kernel refuses to create the BPF map waits: Operation not permitted",
         PrivilegeError),
        ("could not open bpf map: waits, error: Cannot allocate memory\n", COMPILE_FAILED,
         "the kernel refuses to create the BPF map waits: Cannot allocate memory",
         ZombiebpfError),
        ("could not open bpf map: waits, error: unheard of\n", COMPILE_FAILED,
         "the kernel refuses to create the BPF map waits: unheard of", ZombiebpfError),
        (CLANG, COMPILE_FAILED,
         "the probes do not compile: exit.bpf.c:84:85: error: no member named 'argsx' "
         "in 'struct bpf_raw_tracepoint_args'", ZombiebpfError),
        ("fatal error: 'linux/sched.h' file not found\n", COMPILE_FAILED,
         "the probes do not compile: fatal error: 'linux/sched.h' file not found",
         ZombiebpfError),
        ("one\nanother\n", COMPILE_FAILED, "the probes do not compile: another", ZombiebpfError),
        ("", COMPILE_FAILED, f"the probes do not compile: {COMPILE_FAILED}", ZombiebpfError),
        ("chdir(/lib/modules/6.1.0/build): No such file or directory\n",
         "Unable to find kernel headers. Try rebuilding kernel with CONFIG_IKHEADERS=m",
         "this kernel has no BTF and its headers are not installed", ZombiebpfError),
    ],
)  # fmt: skip
def test_what_does_not_compile(
    printed: str, raised: str, what: str, kind: type[ZombiebpfError], kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(text: str, layout: Layout) -> Compiled:
        raise compile_failure(raised, printed)

    monkeypatch.setattr(program, "compile_probes", refuse)
    with pytest.raises(ZombiebpfError) as caught:
        load()
    assert (type(caught.value), caught.value.what) == (kind, what)
    assert caught.value.fix


def test_the_order_of_what_is_loaded_and_attached(kernel: FakeKernel) -> None:
    before = [("on_first", "sched_process_fork"), ("on_second", "sched_process_exit")]
    probes = load(["sched_switch", "sched_process_fork"], before)
    assert [name for what, name in kernel.done if what in ("load", "stage")] == [
        "zb_sched_switch", "zb_fork", *(f"zb_{each}" for each in program.STAGES),
        "zb_first", "zb_second",
    ]  # fmt: skip
    # a stage's number is its index in STAGES, as probes/python.h has them
    assert kernel.stages == {
        number: probes.load(name, syscall.RAW_TRACEPOINT)
        for number, name in enumerate(program.STAGES)
    }
    # programs of one tracepoint run in this order
    assert [name for what, name in kernel.done if what == "attach"] == [
        "sched_process_fork", "sched_process_exit", "sched_switch", "sched_process_fork"
    ]  # fmt: skip
    probes.close()


def test_what_is_compiled_is_kept_and_found(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bytes] = {}
    compiled = []

    def compile_probes(text: str, layout: Layout) -> Compiled:
        compiled.append(text)
        return COMPILED

    monkeypatch.setattr(program, "compile_probes", compile_probes)
    monkeypatch.setattr(cache, "find", kept.get)
    monkeypatch.setattr(cache, "keep", kept.__setitem__)
    for _ in range(2):
        load().close()
    assert (compiled, kept) == ([""], {"name": COMPILED.to_bytes()})


def test_probes_of_other_facts_are_not_found(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(cache, "name_of", lambda kind, parts: b"/".join(parts).decode())
    monkeypatch.setattr(cache, "find", kept.get)
    monkeypatch.setattr(cache, "keep", kept.__setitem__)
    layout = Layout("", {}, "BTF")
    with pytest.raises(NotCompiledError):
        program.load("", layout, [], made_from=b"facts", may_compile=False)
    program.load("", layout, [], made_from=b"facts").close()
    assert list(kept) == ["facts/input"]
    program.load("", layout, [], made_from=b"facts", may_compile=False).close()
    with pytest.raises(NotCompiledError):
        program.load("", layout, [], made_from=b"others", may_compile=False)


def test_the_stages_numbers_are_those_of_the_probes() -> None:
    header = (program.probes_directory() / "python.h").read_text(encoding="utf-8")
    declared = re.findall(r"^#define (STAGE_\w+) (\d+)$", header, re.M)
    assert declared == [(name.upper(), str(number)) for number, name in enumerate(program.STAGES)]
    assert f"BPF_PROG_ARRAY(stages, {len(program.STAGES)});" in header


def test_the_sources_are_found() -> None:
    assert (program.probes_directory() / "wire.h").is_file()
    text = program.source(Layout("struct x;", {"A": "1"}, "BTF"), {"B": "2"})
    assert text.startswith("#define A 1\n#define B 2\n#define NUMBER_OF_")
    assert '\n#line 1 "layout.h"\nstruct x;\n' in text
    assert tuple(re.findall(r"^SUBPROGRAM\((\w+)\)", text, re.M)) == program.SUBPROGRAMS
    assert [text.count(f'#line 1 "{name}"') for name in program.SOURCES] == [1] * len(
        program.SOURCES
    )
    assert sys.getsizeof(text) > 1000
