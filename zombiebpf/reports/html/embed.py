# SPDX-License-Identifier: Apache-2.0
"""What is embedded in the page: data, and the policy for its styles and scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Optional

from markupsafe import Markup

_NOT_IN_A_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class TextTable:
    """Texts by number: each is embedded once, and the columns hold numbers."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: Optional[str]) -> int:
        """Return the number of a text; -1 for None."""
        if text is None:
            return -1
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.all)
            self.all.append(text)
        return number


def json_for_script(value: object) -> Markup:
    """Return ASCII JSON that is safe inside <script>: without characters special to HTML."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char, escape in _NOT_IN_A_SCRIPT.items():
        text = text.replace(char, escape)
    return Markup(text)  # escaped above


def content_security_policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Return a policy by which nothing is loaded and only these styles and scripts apply.

    Even a text of the observed program that was not escaped could then do nothing.
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
