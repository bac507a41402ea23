# SPDX-License-Identifier: Apache-2.0
"""Find containers by id or name, from files alone, without asking a daemon.

A container is a cgroup whose name contains the container's id, or the name with LXC and
systemd-nspawn. Other names are in the files of the runtimes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from zombiebpf.attach.cgroups import (
    Cgroup,
    CgroupHierarchy,
    all_directories,
    cgroups_in,
    hierarchies,
)
from zombiebpf.errors import UsageError

# docker-<id>.scope, libpod-<id>.scope, cri-containerd-<id>.scope, crio-<id>.scope,
# kubepods-x.slice:cri-containerd:<id>, and the plain <id> of the cgroupfs drivers
_ID = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")
# the monitor process of a container
_MONITOR = re.compile(r"conmon-[0-9a-f]{64}(?:\.scope)?$")
_NAMED = re.compile(r"^(?:lxc\.payload\.(?P<lxc>.+)|machine-(?P<nspawn>.+)\.scope)$")

_ANNOTATED = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_PODS = ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name")

_FIX = (
    "an id or its beginning always works: `docker ps`, `podman ps`, `crictl ps`; names are known "
    "of docker, podman, CRI-O, nerdctl, LXC, systemd-nspawn and Kubernetes"
)


class Container(NamedTuple):
    """A running container and its cgroup's directory in each hierarchy."""

    id: str  # 64 hexadecimal digits; LXC and nspawn: the name
    directories: list[tuple[CgroupHierarchy, Path]]


def find_container(word: str, root: Path = Path("/")) -> list[Cgroup]:
    """Return the cgroups of the running container with this name or beginning of an id.

    Raise UsageError unless exactly one container matches. A name goes before the beginning
    of an id, like docker does it.
    """
    running = _running(root)
    found = {id_ for id_, name in container_names(root) if name == word and id_ in running}
    if not found:
        found = {id_ for id_ in running if id_.startswith(word.lower()) and word}
    if word in running:
        found = {word}
    if not found:
        some = ", ".join(sorted(each[:12] for each in running)[:5]) or "none"
        raise UsageError(f"no container {word!r} runs here (those that run: {some})", _FIX)
    if len(found) > 1:
        ids = ", ".join(sorted(each[:12] for each in found))
        raise UsageError(f"{word!r} are {len(found)} containers", f"choose one by its id: {ids}")
    return cgroups_in(running[found.pop()].directories, word)


def _running(root: Path) -> dict[str, Container]:
    found: dict[str, Container] = {}
    for hierarchy in hierarchies(root):
        for directory in all_directories(hierarchy):
            id_ = container_id(directory.name)
            if id_:
                container = found.setdefault(id_, Container(id_, []))
                if not any(other in directory.parents for _, other in container.directories):
                    container.directories.append((hierarchy, directory))
    return found


def container_id(directory: str) -> str:
    """Return the id of the container that a cgroup is named after; "" if there is none."""
    named = _NAMED.match(directory)
    if named:
        return str(named["lxc"] or named["nspawn"]).replace("\\x2d", "-")
    found = _ID.search(directory)
    return found[1] if found and not _MONITOR.search(directory) else ""


def container_names(root: Path = Path("/")) -> Iterator[tuple[str, str]]:
    """Yield (id, name) of all containers in the files of the runtimes, running or not."""
    yield from _docker(root)
    yield from _storage(root)
    yield from _nerdctl(root)
    yield from _bundles(root)


def _docker(root: Path) -> Iterator[tuple[str, str]]:
    where = _object(_json(root / "etc/docker/daemon.json")).get("data-root", "/var/lib/docker")
    for file in (root / str(where).lstrip("/")).glob("containers/*/config.v2.json"):
        state = _object(_json(file))
        if "Name" in state:
            yield file.parent.name, str(state["Name"]).lstrip("/")


def _storage(root: Path) -> Iterator[tuple[str, str]]:
    for pattern in (
        "var/lib/containers/storage/*-containers/containers.json",
        "root/.local/share/containers/storage/*-containers/containers.json",
        "home/*/.local/share/containers/storage/*-containers/containers.json",
    ):
        for file in root.glob(pattern):
            known = _json(file)
            for each in known if isinstance(known, list) else ():
                container = _object(each)
                for name in container.get("names") or ():
                    yield str(container.get("id", "")), str(name)


def _nerdctl(root: Path) -> Iterator[tuple[str, str]]:
    for file in root.glob("var/lib/nerdctl/*/names/*/*"):
        with suppress(OSError):
            yield file.read_text(errors="replace").strip(), file.name


def _bundles(root: Path) -> Iterator[tuple[str, str]]:
    """Read the kubelet's annotations of what runs under containerd or CRI-O."""
    for pattern in (
        "run/containerd/io.containerd.runtime.v2.task/*/*/config.json",
        "run/containers/storage/*-containers/*/userdata/config.json",
    ):
        for file in root.glob(pattern):
            notes = _object(_object(_json(file)).get("annotations"))
            id_ = file.parent.parent.name if "userdata" in file.parts else file.parent.name
            name = next((str(notes[key]) for key in _ANNOTATED if key in notes), "")
            pod = next((str(notes[key]) for key in _PODS if key in notes), "")
            if name:
                yield id_, name
                if pod:
                    yield id_, f"{pod}/{name}"


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
