# SPDX-License-Identifier: Apache-2.0
"""Find the distribution's bcc from any Python, and import that one package.

bcc is not on PyPI (the `bcc` there is an unrelated project): distributions install it for
their own interpreter. It is pure Python over libbcc, so any Python can load it.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from zombiebpf.errors import ZombiebpfError

BCC_DIR = "ZOMBIEBPF_BCC"  # environment: the directory that holds the package bcc

_FIX = "install it: apt install python3-bpfcc, dnf install python3-bcc or pacman -S python-bcc"
_PLACES = (
    "/usr/lib/python3/dist-packages",  # Debian, Ubuntu
    "/usr/lib/python3*/site-packages",  # Arch, Alpine, Fedora
    "/usr/lib64/python3*/site-packages",
    "/usr/local/lib/python3*/dist-packages",  # built from source
    "/usr/local/lib/python3*/site-packages",
)


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get(BCC_DIR)
    if chosen is not None:
        yield Path(chosen)
        return
    for pattern in _PLACES:
        for place in sorted(glob.glob(pattern), reverse=True):
            yield Path(place)
    for place in sys.path:
        if os.path.isabs(place):  # not from root's working directory
            yield Path(place)


def find_bcc() -> Path:
    """Return the directory of the package bcc. Raise ZombiebpfError if there is none."""
    for place in _candidates():
        if (place / "bcc" / "libbcc.py").is_file():
            return place / "bcc"
    chosen = os.environ.get(BCC_DIR)
    where = f" in {chosen} ({BCC_DIR})" if chosen is not None else ""
    raise ZombiebpfError(f"bcc's Python module is not on this machine{where}", _FIX)


def import_bcc() -> ModuleType:
    """Import the package bcc without its directory on sys.path.

    Raise ZombiebpfError if it is missing or cannot be imported.
    """
    loaded = sys.modules.get("bcc")
    if loaded is not None and hasattr(loaded, "BPF"):
        return loaded
    package = find_bcc()
    spec = importlib.util.spec_from_file_location(
        "bcc", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        with _quietly():
            spec.loader.exec_module(module)
    except Exception as error:  # whatever an old bcc raises in a new Python
        del sys.modules["bcc"]
        raise ZombiebpfError(f"bcc in {package} does not import: {error}", _FIX) from None
    return module


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the warnings that an old bcc causes in a new Python; write no .pyc files."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.dont_write_bytecode = before


def bcc_version() -> str:
    """Return bcc's version, or `unknown`. Raise ZombiebpfError as import_bcc() does."""
    return str(getattr(import_bcc(), "__version__", "unknown"))
