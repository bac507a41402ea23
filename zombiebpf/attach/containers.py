# SPDX-License-Identifier: Apache-2.0
"""Containers by id or name, from files alone: no daemon is asked.

A container is a cgroup whose name holds its id. Names are known where the
runtime keeps them in files: docker, podman, CRI-O, nerdctl and, for Kubernetes on
containerd, the annotations of what runs. LXC and systemd-nspawn call the cgroup
by the name itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from zombiebpf.attach.cgroups import Group, Hierarchy, directories, groups_at, hierarchies
from zombiebpf.errors import UsageError

# docker-<id>.scope, libpod-<id>.scope, cri-containerd-<id>.scope, crio-<id>.scope,
# kubepods-x.slice:cri-containerd:<id>, and the plain <id> of the cgroupfs drivers
_ID = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")
# the monitor beside the container, not the container
_MONITOR = re.compile(r"conmon-[0-9a-f]{64}(?:\.scope)?$")
_NAMED = re.compile(r"^(?:lxc\.payload\.(?P<lxc>.+)|machine-(?P<nspawn>.+)\.scope)$")

_ANNOTATED = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_PODS = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")

_CURE = (
    "an id or its beginning always works: `docker ps`, `podman ps`, `crictl ps`; names are known "
    "of docker, podman, CRI-O, nerdctl, LXC, systemd-nspawn and Kubernetes"
)


class Container(NamedTuple):
    """A cgroup, in each hierarchy that has it, that holds a container."""

    id: str  # 64 hexadecimal digits; LXC's and nspawn's: the name
    places: list[tuple[Hierarchy, Path]]


def find_container(word: str, root: Path = Path("/")) -> list[Group]:
    """The cgroups of the one container that has this name, or whose id begins so.

    UsageError where none that runs has, or more than one.
    """
    running = _running(root)
    called = {
        number for number, name in names(root) if name == word and number in running
    }  # a name goes before an id's beginning, as docker has it
    if not called:
        called = {number for number in running if number.startswith(word.lower()) and word}
    if word in running:
        called = {word}
    if not called:
        some = ", ".join(sorted(each[:12] for each in running)[:5]) or "none"
        raise UsageError(f"no container {word!r} runs here (those that run: {some})", _CURE)
    if len(called) > 1:
        ids = ", ".join(sorted(each[:12] for each in called))
        raise UsageError(f"{word!r} are {len(called)} containers", f"choose one by its id: {ids}")
    return groups_at(running[called.pop()].places, word)


def _running(root: Path) -> dict[str, Container]:
    found: dict[str, Container] = {}
    for hierarchy in hierarchies(root):
        for directory in directories(hierarchy):
            number = container_of(directory.name)
            if number:
                container = found.setdefault(number, Container(number, []))
                if not any(other in directory.parents for _, other in container.places):
                    container.places.append((hierarchy, directory))
    return found


def container_of(directory: str) -> str:
    """The container that a cgroup's directory is called by; "" for no container."""
    named = _NAMED.match(directory)
    if named:
        return str(named["lxc"] or named["nspawn"]).replace("\\x2d", "-")
    found = _ID.search(directory)
    return found[1] if found and not _MONITOR.search(directory) else ""


def names(root: Path = Path("/")) -> Iterator[tuple[str, str]]:
    """(id, name) of all containers that the runtimes' files tell of, running or not."""
    yield from _docker(root)
    yield from _storage(root)
    yield from _nerdctl(root)
    yield from _bundles(root)


def _docker(root: Path) -> Iterator[tuple[str, str]]:
    settings = _json(root / "etc/docker/daemon.json")
    known = settings if isinstance(settings, dict) else {}
    where = known.get("data-root", "/var/lib/docker")
    for file in (root / str(where).lstrip("/")).glob("containers/*/config.v2.json"):
        state = _json(file)
        if isinstance(state, dict):
            yield file.parent.name, str(state.get("Name", "")).lstrip("/")


def _storage(root: Path) -> Iterator[tuple[str, str]]:
    """podman's, for root and for each user, and CRI-O's."""
    for pattern in (
        "var/lib/containers/storage/*-containers/containers.json",
        "root/.local/share/containers/storage/*-containers/containers.json",
        "home/*/.local/share/containers/storage/*-containers/containers.json",
    ):
        for file in root.glob(pattern):
            known = _json(file)
            for each in known if isinstance(known, list) else ():
                if isinstance(each, dict):
                    for name in each.get("names") or ():
                        yield str(each.get("id", "")), str(name)


def _nerdctl(root: Path) -> Iterator[tuple[str, str]]:
    for file in root.glob("var/lib/nerdctl/*/names/*/*"):
        with suppress(OSError):
            yield file.read_text(errors="replace").strip(), file.name


def _bundles(root: Path) -> Iterator[tuple[str, str]]:
    """What runs under containerd or CRI-O: the annotations of the kubelet."""
    for pattern in (
        "run/containerd/io.containerd.runtime.v2.task/*/*/config.json",
        "run/containers/storage/*-containers/*/userdata/config.json",
    ):
        for file in root.glob(pattern):
            known = _json(file)
            notes = known.get("annotations") if isinstance(known, dict) else None
            if not isinstance(notes, dict):
                continue
            number = file.parent.parent.name if "userdata" in file.parts else file.parent.name
            name = next((str(notes[key]) for key in _ANNOTATED if key in notes), "")
            pod = next((str(notes[key]) for key in _PODS if key in notes), "")
            if name:
                yield number, name
                if pod:
                    yield number, f"{pod}/{name}"


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
