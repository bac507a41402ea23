# SPDX-License-Identifier: Apache-2.0
"""Write the kernel structs that the probes read as C, from the running kernel's BTF.

Each struct has only the fields in these tables, each at the offset it has in this kernel. So
the probes say `task->tgid` and need no kernel headers. For a kernel without BTF they are
compiled against its headers.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import NamedTuple

from zombiebpf.bpf.btf import Types
from zombiebpf.errors import ZombiebpfError

# struct -> field -> C type, in the order of the C text; a dotted field descends into a member.
STRUCTS: Mapping[str, Mapping[str, str]] = {
    "kernfs_node": {"id": "u64"},
    "cgroup_subsys_state": {"cgroup": "struct cgroup *"},
    "cgroup": {"kn": "struct kernfs_node *", "self.parent": "struct cgroup_subsys_state *"},
    "css_set": {"dfl_cgrp": "struct cgroup *"},
    "super_block": {"s_magic": "u64"},
    "inode": {"i_ino": "u64", "i_sb": "struct super_block *"},
    "file": {"f_inode": "struct inode *"},
    "fdtable": {"max_fds": "u32", "fd": "struct file **"},
    "files_struct": {"fdt": "struct fdtable *"},
    "mm_struct": {"arg_start": "u64", "arg_end": "u64"},
    "linux_binprm": {"filename": "const char *"},
    "kernel_siginfo": {"si_code": "int"},
    "pid_namespace": {"ns.inum": "u32"},
    "upid": {"nr": "int", "ns": "struct pid_namespace *"},
    "pid": {"level": "u32", "numbers": "struct upid[1]"},
    "signal_struct": {
        "live": "int",
        "nr_threads": "int",
        "flags": "u32",
        "group_exit_code": "int",
        "pids": "struct pid *[4]",
    },
    "task_struct": {
        "pid": "int",
        "tgid": "int",
        "start_boottime": "u64",
        "exit_state": "int",
        "exit_code": "int",
        "exit_signal": "int",
        "real_parent": "struct task_struct *",
        "group_leader": "struct task_struct *",
        "children": "struct list_head",
        "sibling": "struct list_head",
        "tasks": "struct list_head",
        "flags": "u32",
        "thread_pid": "struct pid *",
        "signal": "struct signal_struct *",
        "sighand": "struct sighand_struct *",
        "mm": "struct mm_struct *",
        "files": "struct files_struct *",
        "cgroups": "struct css_set *",
        "stack": "void *",
        "comm": "char[16]",
    },
}

# Further fields, by machine: the registers at the top of a thread's kernel stack
# (probes/syscall.h; on x86_64 they are an ABI), and the pointer to the C library's data of a
# thread (probes/pthread.h).
OF_MACHINE: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "x86_64": {"task_struct": {"thread.fsbase": "u64"}},
    "aarch64": {
        "pt_regs": {
            "regs": "u64[31]",
            "pc": "u64",
            "pstate": "u64",
            "orig_x0": "u64",
            "syscallno": "int",
        },
        "task_struct": {"robust_list": "u64"},
    },
}

# macro -> struct, C type, names of a field that was renamed: it becomes the first that exists.
ALTERNATIVES = {
    "STATE_FIELD": ("task_struct", "u32", ("__state", "state")),
}

TRACEPOINTS = (
    "sched_process_fork", "sched_process_exec", "sched_process_exit", "sched_process_wait",
    "sched_process_free", "sched_switch", "signal_generate", "kmem_cache_free",
    "cgroup_attach_task",
)  # fmt: skip

# Structs that are padded to their real size.
SIZES = ("upid", "pt_regs")

_PRELUDE = """struct task_struct; struct sighand_struct; struct pid_namespace; struct files_struct;
struct list_head { struct list_head *next, *prev; };
"""

_HEADERS = """#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/pid_namespace.h>
#include <linux/binfmts.h>
#include <linux/cgroup-defs.h>
#include <linux/kernfs.h>
#include <linux/mm_types.h>
#include <linux/ptrace.h>
#include <linux/fs.h>
#include <linux/fdtable.h>
"""


class Layout(NamedTuple):
    """The C text of the structs."""

    c: str  # to precede the probes
    macros: Mapping[str, str]  # to define before it
    source: str  # where it comes from: `BTF`, or `headers in DIRECTORY`


def _structs() -> Mapping[str, Mapping[str, str]]:
    own = OF_MACHINE.get(platform.machine(), {})
    return {name: {**STRUCTS.get(name, {}), **own.get(name, {})} for name in {**STRUCTS, **own}}


def btf_names() -> list[str]:
    """Return the names that the Btf for from_btf() must index."""
    return [*_structs(), *(f"btf_trace_{name}" for name in TRACEPOINTS)]


def from_btf(btf: Types) -> Layout:
    """Return the structs. Raise ZombiebpfError if this kernel lacks a field."""
    wanted = {struct: dict(fields) for struct, fields in _structs().items()}
    macros = {}
    for macro, (struct, c_type, names) in ALTERNATIVES.items():
        found = [name for name in names if btf.field(struct, name) is not None]
        if not found:
            raise _lacks(struct, " or ".join(names))
        wanted[struct][found[0]] = c_type
        macros[macro] = found[0]
    text = [_PRELUDE, *(_struct(btf, struct, fields) for struct, fields in wanted.items())]
    return Layout("\n".join(text), macros, "BTF")


def from_headers(directory: str) -> Layout:
    """Return the layout of a kernel without BTF: its own headers, in `directory`."""
    return Layout(_HEADERS, {"STATE_FIELD": "__state"}, f"headers in {directory}")


def _struct(btf: Types, struct: str, fields: Mapping[str, str]) -> str:
    members = []
    for path, c_type in fields.items():
        where = btf.field(struct, path)
        if where is None:
            raise _lacks(struct, path)
        members.append(_member(where.offset, path, c_type))
    size = btf.size(struct) if struct in SIZES else None
    if size is not None:
        members.append(f"char _size[{size}];")
    body = "\n\t\t".join(members)
    return f"struct {struct} {{\n\tunion {{\n\t\t{body}\n\t}};\n}};"


def _member(offset: int, path: str, c_type: str) -> str:
    *outer, name = path.split(".")
    if "[" in c_type:
        base, _, count = c_type.partition("[")
        declaration = f"{base} {name}[{count};"
    else:
        declaration = f"{c_type} {name};"
    for each in reversed(outer):
        declaration = f"struct {{ {declaration} }} {each};"
    pad = f"char _at_{path.replace('.', '_')}[{offset}]; " if offset else ""
    return f"struct {{ {pad}{declaration} }} __attribute__((packed));"


def _lacks(struct: str, field: str) -> ZombiebpfError:
    return ZombiebpfError(
        f"this kernel's BTF has no {struct}.{field}", "zombiebpf needs Linux 5.8 or newer"
    )
