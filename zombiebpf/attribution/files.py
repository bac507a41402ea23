# SPDX-License-Identifier: Apache-2.0
"""Where rules come from: the user's own files first, then rules.yaml beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zombiebpf.attribution.parse import Parsed, RulesError, parse

VARIABLE = "ZOMBIEBPF_RULES"  # paths with ":" between them; sudo drops it unless told to keep it
BUILT_IN = Path(__file__).with_name("rules.yaml")


def load(paths: Sequence[str], environ: Mapping[str, str]) -> Parsed:
    """Rules of all, in the order in which they are asked. RulesError names file and line."""
    named = [each for each in environ.get(VARIABLE, "").split(":") if each]
    parsed = [_read(Path(each), each) for each in (*paths, *named)]
    parsed.append(_read(BUILT_IN, str(BUILT_IN)))
    return Parsed(
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
