# SPDX-License-Identifier: Apache-2.0
"""Let bcc's exitsnoop compile where no kernel headers are installed.

It reads five fields of task_struct. Their offsets are in the kernel's BTF, so a linux/sched.h
of these five does what the kernel's own would.
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

from zombiebpf.bpf import headers
from zombiebpf.bpf.btf import Btf

_FIELDS = {
    "pid": "int pid",
    "tgid": "int tgid",
    "exit_code": "int exit_code",
    "start_time": "unsigned long long start_time",
    "real_parent": "struct task_struct *real_parent",
}


def exitsnoop(output: str) -> list[str]:
    """Return the command that prints each exit; its headers lie beside `output` if needed."""
    command = ["exitsnoop-bpfcc"]
    if Path(f"/lib/modules/{platform.release()}/build").exists():
        return command
    directory = Path(tempfile.mkdtemp(prefix="headers-", dir=Path(output).parent))
    headers.write_stubs(directory)
    for name in ("uapi/linux/ptrace.h", "linux/ptrace.h"):
        file = directory / "include" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (directory / "include" / "linux" / "sched.h").write_text(_task_struct())
    (directory / "arch").mkdir()
    return ["env", f"BCC_KERNEL_SOURCE={directory}", *command]


def _task_struct() -> str:
    btf = Btf.of_kernel(["task_struct"])
    members = []
    for number, (name, declared) in enumerate(_FIELDS.items()):
        field = btf.field("task_struct", name)
        if field is not None:
            members.append(f"struct {{ char before{number}[{field.offset}]; {declared}; }};")
    lines = os.linesep.join(members)
    return f"#define TASK_COMM_LEN 16\nstruct task_struct {{ union {{\n{lines}\n}}; }};\n"
