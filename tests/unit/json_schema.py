# SPDX-License-Identifier: Apache-2.0
"""Build validators of the JSON Schema in docs/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "zombiebpf-1.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="ascii"))


def against(definition: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{definition}"})


DOCUMENT = Draft202012Validator(SCHEMA)
LINE = against("line")
