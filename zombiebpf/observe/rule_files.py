# SPDX-License-Identifier: Apache-2.0
"""Read attribution rules: the user's own files first, then the built-in ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from zombiebpf.attribution.rules import matching
from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.attribution.rules.parse import FAST_LOADER, Parsed, RulesError, parse

VARIABLE = "ZOMBIEBPF_RULES"  # paths separated by ":"; sudo drops it unless configured to keep it
BUILT_IN = Path(matching.__file__).with_name("rules.yaml")

_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})


def load_rules(paths: Sequence[str] = (), environ: Mapping[str, str] = _NO_ENVIRONMENT) -> Rules:
    """Return the rules of `paths`, of the files named by $ZOMBIEBPF_RULES, and the built-in ones.

    The first rule that holds decides, in this order. Raise RulesError, which names
    file and line, if a file cannot be read or is invalid.
    """
    named = [each for each in environ.get(VARIABLE, "").split(":") if each]
    parsed = [_read(Path(each), each) for each in (*paths, *named)]
    parsed.append(parse(BUILT_IN.read_text(encoding="utf-8"), str(BUILT_IN), FAST_LOADER))
    return Rules(
        [rule for each in parsed for rule in each.rules],
        [pattern for each in parsed for pattern in each.objects],
    )


def _read(path: Path, name: str) -> Parsed:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RulesError(f"{name}: the rules cannot be read: {why}", "--rules FILE") from None
    return parse(text, name)
