# SPDX-License-Identifier: Apache-2.0
"""Keep what is known of interpreters' ELF files, from one run to the next."""

from __future__ import annotations

from contextlib import suppress

from zombiebpf.kernel import cache
from zombiebpf.python import image

_MAX_BYTES = 1 << 20  # some 2,000 files; then it begins anew


def load() -> None:
    """Take over what earlier runs have found."""
    kept = cache.find(_name())
    if kept is not None and len(kept) < _MAX_BYTES:
        with suppress(ValueError):
            image.preload(kept)


def keep() -> None:
    """Store what this run has found, if there is something new."""
    found = image.keep()
    if found is not None:
        cache.keep(_name(), found)


def _name() -> str:
    return cache.name_of(cache.IMAGES, image.inputs())
