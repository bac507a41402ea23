# SPDX-License-Identifier: Apache-2.0
"""What is packaged: sdist, wheel, Debian package, man pages; what the documents promise of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import deb, dist, manual
from zombiebpf.reports.html.page_data import COLUMNS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 1_000_000_000
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
MAPPED = {name: place for name, place in SETUPTOOLS["package-dir"].items() if "." in name}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dist.build_sdist(ROOT, tmp_path_factory.mktemp("sdist"), EPOCH)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source distribution, as pip builds it for whoever downloads that."""
    return dist.build_wheel(sdist, tmp_path_factory.mktemp("wheel"), EPOCH)


def test_the_source_distribution_has_what_builds_and_tests(sdist: Path) -> None:
    expected = {
        ".clang-format", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
        "MANIFEST.in", "Makefile", "README.md", "SECURITY.md", "Vagrantfile", "package.json",
        "pyproject.toml", "tsconfig.json",
    }  # fmt: skip
    for place in (".ci", "LICENSES", "bench", "docs", "probes", "scenarios", "tests", "tools"):
        expected |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / place).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    held = {member.name.partition("/")[2] for member in members if member.isfile()}
    assert expected - {"bench/results.json", "bench/results-partial.json"} <= held
    assert {(each.mtime, each.uname, each.uid) for each in members} == {(EPOCH, "root", 0)}
    assert {each.mode for each in members} == {0o644, 0o755}


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
    assert {"zombiebpf/probes/wire.h", "zombiebpf/py.typed"} <= held
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
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    count = len(list((ROOT / "scenarios").glob("*.yaml")))
    package = tmp_path / "zombiebpf"
    expected = f"{package / 'probes'} {package / 'scenarios'} {count}\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_dependencies_are_bounded() -> None:
    """A new major version of one is tried before it is allowed."""
    for requirement in SETTINGS["project"]["dependencies"]:
        assert fnmatch(requirement, "*>=*,<*"), requirement


def test_debian_has_every_dependency() -> None:
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
def test_debian_package(wheel: Path, tmp_path: Path) -> None:
    package = deb.build(wheel, tmp_path, EPOCH)
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
    done = subprocess.run(
        [sys.executable, str(launcher), "--version"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    version = subprocess.run(
        ["dpkg-deb", "-f", str(package), "Version"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    assert done.stdout == f"zombiebpf, version {version}\n", done.stderr


def test_man_pages_say_what_help_says() -> None:
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
def test_completion_script(shell: str) -> None:
    script = manual.completion(shell)
    assert f"_ZOMBIEBPF_COMPLETE={shell}_complete" in script
    assert "%(" not in script


def test_completion_completes() -> None:
    """What the script of bash asks for is answered."""
    done = subprocess.run(
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
    assert (done.stdout, done.stderr) == ("plain,doctor\n", "")


def test_each_path_that_contributors_are_given_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:\.ci|bench|docs|probes|scenarios|tests|tools|zombiebpf)/[^`\s]*)`", text
    )
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(named) > 30
    assert [path for path in [*named, *linked] if not (ROOT / path).exists()] == []


def test_pre_commit_runs_the_tools_of_make_check() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(PY)", ".venv/bin/python")
    recipes = re.findall(r"^check(?:-js)?:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    commands = [line for line in "".join(recipes).splitlines() if "tools/setup.sh" not in line]
    assert len(recipes) == 2
    assert [hook for hook in hooks if not any(hook in line for line in commands)] == []
    assert [line for line in commands if not any(hook in line for hook in hooks)] == []


def test_the_types_of_the_page_name_what_it_has() -> None:
    """Its ids, and the columns of its data."""
    types = (ROOT / "tools/page.d.ts").read_text(encoding="utf-8")
    ids = re.findall(r'^  "?([a-z-]+)"?: HTML', types.partition("interface Ids {")[2], re.MULTILINE)
    page = (ROOT / "zombiebpf/reports/html/assets/page.html.j2").read_text(encoding="utf-8")
    assert len(ids) > 20
    assert [each for each in ids if f'id="{each}"' not in page] == []
    columns = types.partition("interface Columns {")[2].partition("}")[0]
    assert re.findall(r"^  (\w+):", columns, re.MULTILINE) == list(COLUMNS)
