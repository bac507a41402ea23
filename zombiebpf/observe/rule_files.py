# SPDX-License-Identifier: Apache-2.0
"""Read attribution rules: the user's own files first, then the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from zombiebpf.attribution.rules import built_in
from zombiebpf.attribution.rules.matching import Rules

if TYPE_CHECKING:
    from zombiebpf.attribution.rules.parse import Parsed

VARIABLE = "ZOMBIEBPF_RULES"  # paths separated by ":"; sudo drops it unless configured to keep it

_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


def load_rules(paths: Sequence[str] = (), environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Rules:
    """Return the rules of `paths`, of the files named by $ZOMBIEBPF_RULES, and the built-in ones.

    The first rule that holds decides, in this order. Raise RulesError, which names
    file and line, if a file cannot be read or is invalid.
    """
    named = [each for each in environ.get(VARIABLE, "").split(":") if each]
    parsed = [_read(Path(each), each) for each in (*paths, *named)]
    return Rules(
        [*(rule for each in parsed for rule in each.rules), *built_in.RULES],
        [*(pattern for each in parsed for pattern in each.objects), *built_in.OBJECTS],
    )


def _read(path: Path, name: str) -> Parsed:
    from zombiebpf.attribution.rules.parse import RulesError, parse  # imports yaml, 10 ms

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RulesError(f"{name}: the rules cannot be read: {why}", "--rules FILE") from None
    return parse(text, name)
