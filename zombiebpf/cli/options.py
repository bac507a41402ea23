# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence

from zombiebpf.errors import UsageError


def parse_hooks(values: Sequence[str]) -> dict[str, str]:
    """`FACT=NAME`... -> {fact: name}."""
    forced = {}
    for value in values:
        fact, equals, name = value.partition("=")
        if not equals:
            raise UsageError(f"--hook {value!r}: expected FACT=NAME", "as in --hook reap=NAME")
        forced[fact] = name
    return forced
