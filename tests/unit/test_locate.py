# SPDX-License-Identifier: Apache-2.0
"""Finding the distribution's bcc, and no other package of that name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zombiebpf.bpf import locate_bcc
from zombiebpf.errors import ZombiebpfError


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No place to look, and `sys.modules` as it was afterwards."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("bcc")}
    for name in before:
        del sys.modules[name]
    monkeypatch.delenv(locate_bcc.BCC_DIR, raising=False)
    monkeypatch.setattr(locate_bcc, "_PLACES", (f"{tmp_path}/dist*",))
    monkeypatch.setattr(sys, "path", [])
    yield
    for name in [name for name in sys.modules if name.startswith("bcc")]:
        del sys.modules[name]
    sys.modules.update(before)


def bcc_in(place: Path, text: str = "__version__ = '9.9'\nclass BPF: pass\n") -> Path:
    package = place / "bcc"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .libbcc import *\nfrom .libbcc import __version__\n")
    (package / "libbcc.py").write_text(text)
    return package


def test_the_distributions_comes_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bcc_in(tmp_path / "path")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "path")])
    assert locate_bcc.find_bcc() == tmp_path / "path" / "bcc"
    package = bcc_in(tmp_path / "dist-packages")
    assert locate_bcc.find_bcc() == package


def test_the_newest_pythons_is_taken(tmp_path: Path) -> None:
    bcc_in(tmp_path / "dist3.8")
    package = bcc_in(tmp_path / "dist3.9")
    assert locate_bcc.find_bcc() == package


def test_another_package_of_that_name_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "path" / "bcc"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "path")])
    with pytest.raises(ZombiebpfError, match="not on this machine"):
        locate_bcc.find_bcc()
    bcc_in(tmp_path / "dist-packages")
    assert locate_bcc.bcc_version() == "9.9"


def test_never_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bcc_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "."])
    with pytest.raises(ZombiebpfError):
        locate_bcc.find_bcc()


def test_where_the_environment_says_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bcc_in(tmp_path / "dist-packages")
    monkeypatch.setenv(locate_bcc.BCC_DIR, str(tmp_path / "own"))
    with pytest.raises(ZombiebpfError, match="own \\(ZOMBIEBPF_BCC\\)") as caught:
        locate_bcc.import_bcc()
    assert "apt install python3-bpfcc" in str(caught.value.fix)
    package = bcc_in(tmp_path / "own")
    assert locate_bcc.import_bcc().__file__ == str(package / "__init__.py")


def test_importing_leaves_no_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    warn = "import warnings; warnings.warn('old', DeprecationWarning)\n__version__ = '1'\n"
    package = bcc_in(tmp_path / "dist-packages", warn + "class BPF: pass\n")
    path, writes = list(sys.path), sys.dont_write_bytecode
    module = locate_bcc.import_bcc()
    assert locate_bcc.import_bcc() is module
    assert (sys.path, sys.dont_write_bytecode) == (path, writes)
    assert sorted(file.name for file in package.iterdir()) == ["__init__.py", "libbcc.py"]
    assert capfd.readouterr() == ("", "")


def test_one_that_does_not_import(tmp_path: Path) -> None:
    bcc_in(tmp_path / "dist-packages", "raise OSError('libbcc.so.0: file too short')\n")
    with pytest.raises(ZombiebpfError, match=r"does not import: .*file too short"):
        locate_bcc.import_bcc()
    assert "bcc" not in sys.modules
