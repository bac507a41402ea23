# SPDX-License-Identifier: Apache-2.0
"""What stands in the page beside HTML: data, styles, scripts, and the policy over them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Optional

from markupsafe import Markup

_NOT_IN_A_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Texts:
    """Each text once: a column holds its number."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: Optional[str]) -> int:
        """-1 for none."""
        if text is None:
            return -1
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.all)
            self.all.append(text)
        return number


def data(value: object) -> Markup:
    """JSON that is harmless within <script>: ASCII, and nothing that HTML acts upon."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char, escape in _NOT_IN_A_SCRIPT.items():
        text = text.replace(char, escape)
    return Markup(text)  # escaped above


def policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """A Content-Security-Policy by which nothing is loaded, and only these run.

    So even a text of the observed program that were not escaped could do nothing.
    """
    return "; ".join(
        [
            "default-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            " ".join(["style-src", *map(_hash, styles)]),
            " ".join(["script-src", *map(_hash, scripts)]),
        ]
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
