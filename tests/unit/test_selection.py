# SPDX-License-Identifier: Apache-2.0
"""What the user asks to attach to, on machines that are directories."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from zombiebpf.attach.cgroups import find_cgroups
from zombiebpf.attach.containers import container_id, container_names, find_container
from zombiebpf.attach.processes import arguments, is_same, names_of, read_stat
from zombiebpf.attach.selection import SelectionRequest, matches, select
from zombiebpf.errors import UsageError

KTHREAD = 0x00200000
ONE, TWO = "1" * 64, "12" * 32


class Machine:
    """Directories such as / has them."""

    def __init__(self, root: Path, unified: bool = True, legacy: bool = False) -> None:
        self.root = root
        mounts = ["tmpfs /sys/fs/cgroup tmpfs rw 0 0"] if legacy else []
        self.groups = []
        if legacy:
            self.groups += [root / "sys/fs/cgroup/memory", root / "sys/fs/cgroup/systemd"]
            mounts.append("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0")
            mounts.append("cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0")
        if unified:
            where = "sys/fs/cgroup/unified" if legacy else "sys/fs/cgroup"
            self.groups.append(root / where)
            mounts.append(f"cgroup2 /{where} cgroup2 rw 0 0")
        for each in self.groups:
            each.mkdir(parents=True)
        self.write("proc/self/mounts", "\n".join(mounts) + "\n")

    def write(self, name: str, text: str) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def process(
        self, pid: int, comm: str, argv: Sequence[str] = (), flags: int = 0, start: int = 100
    ) -> None:
        fields = ["S", "1", "1", "1", "0", "-1", str(flags), *["0"] * 12, str(start), "0"]
        self.write(f"proc/{pid}/stat", f"{pid} ({comm}) {' '.join(fields)}\n")
        self.write(f"proc/{pid}/status", f"Name:\t{comm}\nTgid:\t{pid}\n")
        self.write(f"proc/{pid}/cmdline", "".join(each + "\0" for each in argv))

    def group(self, name: str, pids: Sequence[int] = (), hierarchy: int = -1) -> Path:
        place = self.groups[hierarchy] / name.lstrip("/")
        place.mkdir(parents=True)
        (place / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return place


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def refusal(root: Path, **request: Any) -> str:
    with pytest.raises(UsageError) as error:
        select(SelectionRequest(**request), root)
    assert error.value.exit_code == 2
    return str(error.value)


# by PID


def test_by_pid(machine: Machine) -> None:
    machine.process(10, "app", start=7)
    machine.process(11, "app) S 1 (", start=8)
    selected = select(SelectionRequest(pids=[10, 11]), machine.root)
    assert selected.selection == (frozenset({10, 11}), frozenset(), False)
    assert selected.start_ticks == {10: 7, 11: 8}


def test_a_pid_that_cannot_be_meant(machine: Machine) -> None:
    machine.process(2, "kthreadd", flags=KTHREAD)
    machine.process(10, "app")
    machine.process(11, "app")
    machine.write("proc/11/status", "Name:\tapp\nTgid:\t10\n")
    machine.process(os.getpid(), "python3")
    assert "no process has the PID 99" in refusal(machine.root, pids=[10, 99])
    assert "PID 2 (kthreadd) is a kernel thread" in refusal(machine.root, pids=[2])
    assert "11 is a thread of the process 10" in refusal(machine.root, pids=[11])
    assert "itself" in refusal(machine.root, pids=[os.getpid()])
    assert "attach to what?" in refusal(machine.root)


def test_a_stat_without_sense(machine: Machine) -> None:
    machine.write("proc/5/stat", "5 (x) S 1\n")
    assert read_stat(5, machine.root / "proc") is None
    assert read_stat(6, machine.root / "proc") is None


def test_the_same_process(machine: Machine) -> None:
    machine.process(5, "x", start=123)
    proc = machine.root / "proc"
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert is_same(5, 123 * tick_ns, proc)
    assert is_same(5, 124 * tick_ns - 1, proc)
    assert not is_same(5, 124 * tick_ns, proc)
    assert not is_same(6, 123 * tick_ns, proc)


# by name


@pytest.mark.parametrize(
    ("comm", "argv", "expected"),
    [
        ("gunicorn", ["/usr/bin/python3", "/usr/bin/gunicorn", "app"], {"python3", "gunicorn"}),
        ("python3.11", ["python3.11", "-u", "-X", "dev", "bin/app.py", "-m", "x"],
         {"python3.11", "app.py", "app"}),
        ("python", ["python", "-m", "celery.bin", "worker"], {"python", "celery.bin", "celery"}),
        ("python", ["python", "-um", "celery", "worker"], {"python", "celery"}),
        ("python", ["python", "-mcelery"], {"python", "celery"}),
        ("python", ["python", "-c", "import app"], {"python"}),
        ("python", ["python", "-Wignore", "-m", "app"], {"python", "app"}),
        ("python", ["python", "-"], {"python", "-"}),
        ("python", ["python"], {"python"}),
        ("gunicorn: maste", ["gunicorn: master [app:app]"],
         {"gunicorn: maste", "gunicorn: master [app:app]", "gunicorn"}),
        ("postgres", ["postgres: writer  "], {"postgres", "postgres: writer  "}),
        ("a_very_long_nam", ["/opt/a_very_long_name"], {"a_very_long_nam", "a_very_long_name"}),
        ("sh", [], {"sh"}),
    ],
)  # fmt: skip
def test_what_a_process_is_called(
    comm: str, argv: list[str], expected: set[str], machine: Machine
) -> None:
    machine.process(5, comm, argv)
    assert names_of(5, machine.root / "proc") == expected


def test_its_program_is_a_name_too(machine: Machine) -> None:
    machine.process(5, "renamed", ["title"])
    (machine.root / "proc/5/exe").symlink_to("/opt/bin/server (deleted)")
    assert "server" in names_of(5, machine.root / "proc")


def test_a_kernel_thread_has_no_name(machine: Machine) -> None:
    machine.process(5, "kworker/0", flags=KTHREAD)
    assert names_of(5, machine.root / "proc") == set()
    assert "no process is called 'kworker*'" in refusal(machine.root, names=["kworker*"])


def test_by_name(machine: Machine) -> None:
    machine.process(5, "celery", ["python3", "/bin/celery"])
    machine.process(6, "python3", ["python3", "-m", "celery"])
    machine.process(7, "cel", ["cel"])
    machine.process(os.getpid(), "celery")  # it is we
    assert select(SelectionRequest(names=["celery"]), machine.root).selection.pids == {5, 6}
    assert select(SelectionRequest(names=["cel", "cel?ry"]), machine.root).selection.pids == {
        5,
        6,
        7,
    }
    assert select(SelectionRequest(names=["c*"]), machine.root).selection.pids == {5, 6, 7}
    assert "no process is called 'CELERY'" in refusal(machine.root, names=["CELERY"])
    assert "no process is called ''" in refusal(machine.root, names=[""])


def test_a_name_that_the_kernel_has_cut() -> None:
    assert matches("a_very_long_name_indeed", {"a_very_long_nam"})
    assert not matches("a_very_long_name_indeed", {"a_very_long"})
    assert not matches("a_very_long_n*x", {"a_very_long_n*x"[:13]})
    assert matches("[ab]*", {"bash"})


def test_a_command_line(machine: Machine) -> None:
    machine.process(5, "x", ["a", "", "b c"])
    machine.process(6, "zombie")
    machine.write("proc/7/cmdline", "a title without an end")
    proc = machine.root / "proc"
    assert arguments(5, proc) == ("a", "", "b c")
    assert arguments(6, proc) is None
    assert arguments(7, proc) == ("a title without an end",)
    assert arguments(8, proc) is None


# by cgroup


def test_by_cgroup(machine: Machine) -> None:
    place = machine.group("/system.slice/cron.service")
    number = os.stat(place).st_ino
    for name in (
        "/system.slice/cron.service",
        "system.slice/cron.service/",
        "/sys/fs/cgroup/system.slice/cron.service",
    ):
        selected = select(SelectionRequest(cgroups=[name]), machine.root)
        assert selected.selection == (frozenset(), frozenset({number}), False)
        assert selected.directories == [place]
    for name in ("/system.slice/cron", "/../..", "/system.slice/cron.service/cgroup.procs"):
        assert f"no cgroup {name!r}" in refusal(machine.root, cgroups=[name])


def test_by_cgroup_of_version_1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unified=False, legacy=True)
    machine.group("/app", [5, 6, 0], hierarchy=0)
    machine.group("/app/below", [7], hierarchy=0)
    machine.group("/empty", hierarchy=0)
    selected = select(SelectionRequest(cgroups=["/app"]), tmp_path)
    assert selected.selection == (frozenset({5, 6, 7}), frozenset(), False)
    assert selected.directories == []
    assert "no process is in the cgroup '/empty'" in refusal(tmp_path, cgroups=["/empty"])


def test_by_cgroup_of_both_versions(tmp_path: Path) -> None:
    machine = Machine(tmp_path, legacy=True)
    place = machine.group("/app")
    machine.group("/app", [5], hierarchy=0)
    machine.group("/app", [6], hierarchy=1)
    selected = select(SelectionRequest(cgroups=["/app"]), tmp_path).selection
    assert selected == (frozenset({5, 6}), frozenset({os.stat(place).st_ino}), False)


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    machine = Machine(tmp_path, unified=False)
    assert "no cgroup hierarchy" in refusal(machine.root, cgroups=["/"])
    assert find_cgroups("/", Machine(tmp_path / "other").root)


# by container


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        (f"docker-{ONE}.scope", ONE),
        (ONE, ONE),
        (f"libpod-{ONE}.scope", ONE),
        (f"libpod-{ONE}", ONE),
        (f"cri-containerd-{ONE}.scope", ONE),
        (f"crio-{ONE}.scope", ONE),
        (f"kubepods-pod1.slice:cri-containerd:{ONE}", ONE),
        (f"nerdctl-{ONE}.scope", ONE),
        (f"libpod-conmon-{ONE}.scope", ""),
        (f"crio-conmon-{ONE}.scope", ""),
        ("lxc.payload.web", "web"),
        ("lxc.monitor.web", ""),
        ("machine-web.scope", "web"),
        ("machine-my\\x2dweb.scope", "my-web"),
        (ONE[:63], ""),
        (ONE + "1", ""),
        ("system.slice", ""),
    ],
)
def test_containers_name_their_cgroups(directory: str, expected: str) -> None:
    assert container_id(directory) == expected


def numbers(root: Path, word: str) -> set[Any]:
    return {group.id for group in find_container(word, root)}


def test_by_an_id(machine: Machine) -> None:
    one = machine.group(f"/system.slice/docker-{ONE}.scope")
    machine.group(f"/system.slice/docker-{ONE}.scope/{TWO}")  # docker in docker
    pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_34.slice"
    two = machine.group(f"{pod}/cri-containerd-{TWO}.scope")
    machine.group(f"/user.slice/libpod-conmon-{'a' * 64}.scope")
    assert numbers(machine.root, ONE[:3]) == {os.stat(one).st_ino}
    assert numbers(machine.root, ONE) == {os.stat(one).st_ino}
    inner = os.stat(one / TWO).st_ino
    assert numbers(machine.root, "1212") == {os.stat(two).st_ino, inner}
    assert f"'1' are 2 containers (choose one by its id: {ONE[:12]}, {TWO[:12]})" in refusal(
        machine.root, containers=["1"]
    )
    assert "no container 'aaa' runs here" in refusal(machine.root, containers=["aaa"])
    assert "no container '' runs here" in refusal(machine.root, containers=[""])


def test_by_a_name_of_docker(machine: Machine) -> None:
    place = machine.group(f"/docker/{ONE}")
    machine.write(f"var/lib/docker/containers/{ONE}/config.v2.json", '{"Name": "/web"}')
    machine.write(f"var/lib/docker/containers/{TWO}/config.v2.json", '{"Name": "/stopped"}')
    machine.write("var/lib/docker/containers/broken/config.v2.json", "{")
    assert numbers(machine.root, "web") == {os.stat(place).st_ino}
    why = refusal(machine.root, containers=["stopped"])
    assert f"no container 'stopped' runs here (those that run: {ONE[:12]})" in why
    machine.write("etc/docker/daemon.json", '{"data-root": "/data"}')
    machine.write(f"data/containers/{ONE}/config.v2.json", '{"Name": "/moved"}')
    assert numbers(machine.root, "moved") == {os.stat(place).st_ino}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("var/lib/containers/storage/overlay-containers/containers.json",
         json.dumps([{"id": TWO, "names": ["web"]}, {"id": ONE}, 7])),
        ("home/ann/.local/share/containers/storage/vfs-containers/containers.json",
         json.dumps([{"id": TWO, "names": ["web"]}])),
        ("var/lib/nerdctl/1935db59/names/default/web", TWO),
        (f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{TWO}/config.json",
         json.dumps({"annotations": {"io.kubernetes.cri.container-name": "web",
                                     "io.kubernetes.cri.sandbox-name": "pod-1"}})),
        (f"run/containers/storage/overlay-containers/{TWO}/userdata/config.json",
         json.dumps({"annotations": {"io.kubernetes.container.name": "web"}})),
    ],
)  # fmt: skip
def test_by_a_name_of_others(file: str, text: str, machine: Machine) -> None:
    place = machine.group(f"/any/cri-containerd-{TWO}.scope")
    machine.group(f"/any/cri-containerd-{ONE}.scope")
    machine.write(file, text)
    assert (TWO, "web") in set(container_names(machine.root))
    assert numbers(machine.root, "web") == {os.stat(place).st_ino}


@pytest.mark.parametrize("text", ["", "[", "7", "[]", "null", '{"annotations": 3}', "\xff"])
def test_files_without_sense(text: str, machine: Machine) -> None:
    machine.group(f"/docker/{ONE}")
    for file in (
        "etc/docker/daemon.json",
        f"var/lib/docker/containers/{ONE}/config.v2.json",
        "var/lib/containers/storage/overlay-containers/containers.json",
        f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ONE}/config.json",
    ):
        machine.write(file, text)
    assert "no container 'web' runs here" in refusal(machine.root, containers=["web"])
    assert numbers(machine.root, ONE[:12])


def test_a_container_id_version_1(tmp_path: Path) -> None:
    machine = Machine(tmp_path, legacy=True)
    machine.group(f"/docker/{ONE}", [5], hierarchy=0)
    machine.group(f"/docker/{ONE}", [5, 6], hierarchy=1)
    assert select(SelectionRequest(containers=[ONE[:9]]), tmp_path).selection.pids == {5, 6}


def test_all_together(machine: Machine) -> None:
    machine.process(5, "app")
    machine.process(6, "other")
    place = machine.group(f"/docker/{ONE}")
    request = SelectionRequest([5], ["other"], ["/"], [ONE], True)
    selection = select(request, machine.root).selection
    root = os.stat(machine.groups[-1]).st_ino
    assert selection == (frozenset({5, 6}), frozenset({root, os.stat(place).st_ino}), True)
