# SPDX-License-Identifier: Apache-2.0
"""The schema refuses what is not the contract."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable

import pytest
from jsonschema import Draft202012Validator

from tests.unit.json_schema import DOCUMENT, LINE, SCHEMA, against
from tests.unit.life_builders import article, rendered


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_every_object_of_the_schema_is_closed() -> None:
    """Check all but `life`, which process and process_line close from outside."""
    open_objects = []

    def look(node: Any, path: str) -> None:
        if isinstance(node, dict):
            if "properties" in node and node.get("type") == "object":
                closed = node.get("additionalProperties") is False
                every = set(node["required"]) == set(node["properties"])
                if not (closed and every):
                    open_objects.append(path)
            for key, value in node.items():
                look(value, f"{path}/{key}")

    look(SCHEMA, "")
    assert open_objects == ["/$defs/life"]
    for name in ("process", "process_line"):
        assert SCHEMA["$defs"][name]["unevaluatedProperties"] is False


def set_at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *way, last = path.split(".")
        node: Any = document
        for step in way:
            node = node[int(step)] if isinstance(node, list) else node[step]
        if value is DELETE:
            del node[last]
        else:
            node[last] = value

    return change


DELETE = object()
CHILD = "processes.1."
WRONG = [
    ("schema", "zombiebpf/2"),
    ("extra", 1),
    ("joins", DELETE),
    ("meta.extra", 1),
    ("meta.hooks.weather", "sunny"),
    ("meta.complete", False),  # with nothing lost
    ("meta.lost_events", 5),  # yet complete
    ("meta.clock", "CLOCK_REALTIME"),
    ("meta.not_collected", ["pid"]),
    (CHILD + "extra", 1),
    (CHILD + "pid", 0),
    (CHILD + "pid", "7"),
    (CHILD + "start_ns", None),
    (CHILD + "start_ns", 1.5),
    (CHILD + "comm", DELETE),
    (CHILD + "argv", "python3"),
    (CHILD + "forker.pid", 0),
    (CHILD + "forker.start", 1),
    (CHILD + "exit_status", 256),
    (CHILD + "signal", 0),
    (CHILD + "signal", 9),  # and exit_status 0
    (CHILD + "zombie_ns", None),  # with an interval
    (CHILD + "zombie_exact", None),
    (CHILD + "exit_ns", None),  # with a latency
    (CHILD + "reap_ns", None),  # though reaped
    (CHILD + "reaped_by", None),  # though reaped
    (CHILD + "reaped_by", "init"),
    (CHILD + "state", "zombie"),  # though reaped
    (CHILD + "state", "running"),
    (CHILD + "reap_call.blocked_ns", -1),
    (CHILD + "reap_call.extra", 1),
    (CHILD + "unseen", {"weather": "cloudy"}),
    (CHILD + "unseen", {"cgroup": ""}),
    (CHILD + "unseen", None),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_wrong_document_is_refused(path: str, value: Any) -> None:
    document = json.loads(rendered(article(), format_="json"))
    DOCUMENT.validate(document)
    wrong = copy.deepcopy(document)
    set_at(path, value)(wrong)
    assert not DOCUMENT.is_valid(wrong)


def test_wrong_lines_are_refused() -> None:
    process, _, meta = [
        json.loads(line) for line in rendered(article(), format_="jsonl").splitlines()
    ]
    for path, value in WRONG:
        if path.startswith(CHILD):
            wrong = copy.deepcopy(process)
            set_at(path[len(CHILD) :], value)(wrong)
            assert not LINE.is_valid(wrong), path
        elif path.startswith("meta."):
            wrong = copy.deepcopy(meta)
            set_at(path, value)(wrong)
            assert not LINE.is_valid(wrong), path
    without = {key: value for key, value in process.items() if key != "schema"}
    for wrong in (
        {},
        without,
        {**meta, **process},
        [process],
        json.loads(rendered(article(), format_="json")),
    ):
        assert not LINE.is_valid(wrong)
    assert against("process").is_valid(without)
