# SPDX-License-Identifier: Apache-2.0
"""What takes long is made once on a machine, and what was kept is as good."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.kernel.running import Result, in_own_mounts, refusal, zombiebpf

CMD = ("sh", "-c", "(exit 4); (exit 5); true")
# The probes cannot be compiled then.
NO_ROOM = "cd /; {}; mount --bind -o ro /usr/share /mnt; cd /proc".format(
    "; ".join(
        f"mount --bind {place} {place}; mount -o remount,bind,ro {place}"
        for place in ("/tmp", "/var/tmp", "/dev/shm")
    )
)


def environment(cache: Path | str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    return {**kept, "ZOMBIEBPF_CACHE": str(cache)}


def facts_of(result: Result) -> list[tuple[Any, ...]]:
    """The report on standard output in short: a shell and its two children."""
    assert (result.returncode, result.stderr) == (0, b"")
    return sorted(
        (life["exit_status"], life["reaped_by"], life["reap_call"]["syscall"])
        for life in json.loads(result.stdout)["processes"]
    )


def test_what_is_kept_is_as_good(tmp_path: Path) -> None:
    cache, environ = tmp_path / "cache", environment(tmp_path / "cache")
    command = ("run", "--format", "json", "--report", "-", *CMD)
    first = facts_of(zombiebpf(*command, env=environ))
    assert [each[0] for each in first] == [0, 4, 5]
    assert sorted(each.suffix for each in cache.iterdir()) == [".boot", ".images", ".probes"]
    (kept,) = cache.glob("*.probes")
    whole = kept.read_bytes()
    assert facts_of(in_own_mounts(NO_ROOM, *command, env=environ)) == first
    kept.write_bytes(whole[:-1])
    refused = in_own_mounts(NO_ROOM, *command, env=environ)
    refusal(refused, 70, "temporary files cannot be written", "TMPDIR")
    assert facts_of(zombiebpf(*command, env=environ)) == first
    assert kept.read_bytes() == whole  # made anew, and the compiler says the same


def test_what_is_kept_of_kernel_and_interpreters_is_made_anew_if_damaged(tmp_path: Path) -> None:
    cache, environ = tmp_path / "cache", environment(tmp_path / "cache")
    command = ("run", "--format", "json", "--report", "-", *CMD)
    first = facts_of(zombiebpf(*command, env=environ))
    for kind in ("boot", "images"):
        (kept,) = cache.glob(f"*.{kind}")
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-1])
        assert facts_of(zombiebpf(*command, env=environ)) == first
        assert len(kept.read_bytes()) >= len(whole)


def test_nothing_is_kept_if_so_asked(tmp_path: Path) -> None:
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    environ = {**environment(""), **homes}
    assert facts_of(zombiebpf("run", "--format", "json", "--report", "-", *CMD, env=environ))
    assert list(tmp_path.iterdir()) == []
    refused = in_own_mounts(NO_ROOM, "run", "echo", "ran", env=environ)
    refusal(refused, 70, "temporary files cannot be written", "TMPDIR")
