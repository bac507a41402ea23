# SPDX-License-Identifier: Apache-2.0
"""What is installed: a wheel with probes and scenarios in it, a Debian package, man pages."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
MAPPED = {name: place for name, place in SETUPTOOLS["package-dir"].items() if "." in name}


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip builds it, from a copy: nothing is left in the clone."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("zombiebpf", *MAPPED.values(), "LICENSES"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone / name)
    target = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [sys.executable, "-I", "-m", "pip", *build, "--wheel-dir", str(target), str(clone)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return next(target.glob("*.whl"))


def test_each_room_is_a_package_of_the_wheel() -> None:
    rooms = {
        str(path.parent.relative_to(ROOT)).replace(os.sep, ".")
        for path in (ROOT / "zombiebpf").rglob("__init__.py")
    }
    assert rooms == set(SETUPTOOLS["packages"]) - set(MAPPED)


def test_the_wheel_has_every_file(wheel: Path) -> None:
    expected = set()
    for place, inside in [("zombiebpf", "zombiebpf")] + [
        (place, name.replace(".", "/")) for name, place in MAPPED.items()
    ]:
        expected |= {
            f"{inside}/{path.relative_to(ROOT / place).as_posix()}"
            for path in (ROOT / place).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected
    assert "zombiebpf/probes/wire.h" in held
    assert "zombiebpf/scenarios/article.py" in held


def test_the_wheel_works_where_there_is_no_clone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from zombiebpf.kernel.program import SOURCES, probes_directory\n"
        "from zombiebpf.scenario import catalog\n"
        "place = probes_directory()\n"
        "assert all((place / name).is_file() for name in SOURCES)\n"
        "built_in = catalog.built_in()\n"
        "for name in catalog.names(built_in): catalog.load(name, built_in)\n"
        "print(place, built_in, len(catalog.names(built_in)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    count = len(list((ROOT / "scenarios").glob("*.yaml")))
    package = tmp_path / "zombiebpf"
    expected = f"{package / 'probes'} {package / 'scenarios'} {count}\n"
    assert (told.stdout, told.stderr) == (expected, "")


def test_dependencies_are_bounded() -> None:
    """A new major version of one is tried before it is allowed."""
    for requirement in SETTINGS["project"]["dependencies"]:
        assert fnmatch(requirement, "*>=*,<*"), requirement


def test_debian_has_every_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    deb = tool("deb", monkeypatch)
    metadata = Message()
    for requirement in SETTINGS["project"]["dependencies"]:
        metadata["Requires-Dist"] = requirement
    metadata["Requires-Dist"] = "mypy==1; extra == 'dev'"
    depends = deb.depends(metadata).split(", ")
    assert depends[:2] == ["python3 (>= 3.9)", "python3-bpfcc"]
    assert "python3-click (>= 8.0)" in depends
    assert "python3-click (<< 9~)" in depends
    assert not any("mypy" in each for each in depends)
    metadata["Requires-Dist"] = "unheard-of>=1,<2"
    with pytest.raises(KeyError, match="unheard-of"):
        deb.depends(metadata)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")
def test_debian_package(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tool("deb", monkeypatch).build(wheel, tmp_path)
    root = tmp_path / "root"
    subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    listed = subprocess.run(
        ["dpkg-deb", "-c", str(package)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())
    assert not [line for line in listed.splitlines() if line[5] == "w" or line[8] == "w"]
    site = root / "usr/lib/python3/dist-packages"
    assert (site / "zombiebpf/probes/wire.h").is_file()
    assert (root / "usr/share/man/man1/zombiebpf-run.1.gz").is_file()
    assert (root / "usr/share/bash-completion/completions/zombiebpf").is_file()
    launcher = root / "usr/bin/zombiebpf"
    assert launcher.read_text().startswith("#!/usr/bin/python3 -s\n")
    told = subprocess.run(
        [sys.executable, str(launcher), "--version"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    version = subprocess.run(
        ["dpkg-deb", "-f", str(package), "Version"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    assert told.stdout == f"zombiebpf, version {version}\n", told.stderr


def test_man_pages_say_what_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    manual = tool("manual", monkeypatch)
    pages = dict(manual.pages())
    assert {"zombiebpf", "zombiebpf-run", "zombiebpf-doctor", "zombiebpf-scenario-run"} <= set(
        pages
    )
    run = pages["zombiebpf-run"]
    assert "\\-\\-report FILE" in run
    assert "sudo zombiebpf run \\-\\- python3 app.py" in run
    assert "\b" not in "".join(pages.values())
    # roff takes a line that begins so for a request
    requests = {line.split()[0] for page in pages.values() for line in page.splitlines()
                if line.startswith((".", "'"))}  # fmt: skip
    assert requests <= {".TH", ".SH", ".B", ".BR", ".PP", ".TP", ".nf", ".fi"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tool("manual", monkeypatch).completion(shell)
    assert f"_ZOMBIEBPF_COMPLETE={shell}_complete" in script
    assert "%(" not in script


def test_completion_completes() -> None:
    """What the script of bash asks for is answered."""
    told = subprocess.run(
        [sys.executable, "-m", "zombiebpf"],
        cwd=ROOT,
        env={
            **os.environ,
            "_ZOMBIEBPF_COMPLETE": "bash_complete",
            "COMP_WORDS": "zombiebpf doc",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("plain,doctor\n", "")
