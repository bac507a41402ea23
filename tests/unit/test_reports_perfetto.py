# SPDX-License-Identifier: Apache-2.0
"""The Perfetto report follows the Trace Event Format and contains what was observed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.hostile_analysis import HOSTILE, hostile
from tests.unit.life_builders import (
    APP,
    BEGAN,
    MS,
    S,
    analysis,
    app,
    crowd,
    ended,
    found_dead,
    life,
    rendered,
)
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import ReapedBy
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.reports.perfetto import SYNTHETIC
from zombiebpf.wording.text import printable

Event = dict[str, Any]

STACK = Stack((Frame("Popen.poll", "/lib/popen_fork.py", 27), Frame("main", "/srv/app.py", 42)))


def trace(observed: Analysis) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(rendered(observed, format_="perfetto"))
    return result


def events(observed: Analysis, phase: str = "X") -> list[Event]:
    return [each for each in trace(observed)["traceEvents"] if each["ph"] == phase]


def named(found: Iterable[Event], begin: str) -> list[Event]:
    return [each for each in found if each["name"].startswith(begin)]


def joined() -> Analysis:
    child = ended(41231, 20 * MS, fork_site=STACK.frames[1], fork_stack=STACK)
    assert child.reap_call is not None
    child = child._replace(reap_call=child.reap_call._replace(kind="join", stack=STACK))
    join = Join(
        APP.pid, APP.pid, 41231, 2.5, BEGAN + 500 * MS, BEGAN + 1100 * MS, "reaped",
        "Process.join", (Child(41231, None),), stack=STACK, site=STACK.frames[1],
    )  # fmt: skip
    return replace(analysis([app(), child]), joins=[join])


def check_rules(found: dict[str, Any]) -> None:
    """Check the rules of the Trace Event Format (Google, 2016) that readers rely on."""
    assert found["displayTimeUnit"] in ("ns", "ms")
    assert all(isinstance(value, str) for value in found["otherData"].values())
    slices: dict[tuple[int, int], list[tuple[float, float]]] = {}
    flows: dict[tuple[str, int], list[Event]] = {}
    processes = set()
    last = -1.0
    for event in found["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name")
            processes.add(event["pid"])
            continue
        assert event["ts"] >= max(last, 0)  # readers sort, but ties keep their order
        last = event["ts"]
        if event["ph"] == "X":
            assert event["dur"] > 0
            place = (event["pid"], event["tid"])
            slices.setdefault(place, []).append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "sf":
            flows.setdefault((event["cat"], event["id"]), []).append(event)
        else:
            assert (event["ph"], event["s"]) == ("i", "t")
    for spans in slices.values():
        open_: list[float] = []
        for begin, end in spans:
            while open_ and open_[-1] <= begin + 1e-4:
                open_.pop()
            assert not open_ or end <= open_[-1] + 1e-4, "slices of a thread nest"
            open_.append(end)
    for ends in flows.values():
        assert [each["ph"] for each in ends] == ["s", "f"]
        assert ends[1]["bp"] == "e"
        assert ends[0]["name"] == ends[1]["name"]
        for each in ends:
            spans = slices[each["pid"], each["tid"]]
            assert any(begin - 1e-4 <= each["ts"] < end for begin, end in spans), each
    assert {pid for pid, _ in slices} <= processes


@pytest.mark.parametrize("observed", [joined(), crowd(), hostile(), analysis([])])
def test_it_keeps_the_rules(observed: Analysis) -> None:
    check_rules(trace(observed))


def test_a_process_is_a_track_with_its_slices() -> None:
    found = [each for each in events(joined()) if each["pid"] == 41231]
    running, dying, zombie = found
    assert (running["name"], running["ts"], running["dur"]) == ("running", 20_000.0, 1e6)
    assert (dying["name"], dying["dur"]) == ("dying", 44.0)
    assert (zombie["name"], zombie["ts"], zombie["dur"]) == ("zombie for 87 µs", 1_020_044.0, 87.0)
    (name,) = [each for each in events(joined(), "M")
               if (each["pid"], each["name"]) == (41231, "process_name")]  # fmt: skip
    assert name["args"] == {"name": "41231 python3 app.py"}


def test_joins_lie_within_with_their_stacks() -> None:
    (join,) = named(events(joined()), "join: Process.join")
    assert (join["pid"], join["tid"], join["ts"], join["dur"]) == (41230, 41230, 5e5, 6e5)
    assert join["args"]["stack"] == ["Popen.poll (/lib/popen_fork.py:27)", "main (/srv/app.py:42)"]
    assert join["args"]["children"] == [41231]
    assert join["args"]["timeout_s"] == 2.5


def test_arrows_lead_from_fork_to_child_and_from_death_to_reap() -> None:
    begins = {(each["cat"], each["pid"], each["ts"]) for each in events(joined(), "s")}
    ends = {(each["cat"], each["pid"], each["ts"]) for each in events(joined(), "f")}
    assert ("fork", 41230, 20_000.0) in begins
    assert ("fork", 41231, 20_000.0) in ends
    assert ("reap", 41231, 1_020_044.0) in begins
    assert ("reap", 41230, 1_020_130.999) in ends
    (reap,) = named(events(joined()), "reap 41231")
    assert reap["name"] == "reap 41231 (join)"
    assert reap["args"]["syscall"] == "wait4"


def test_what_lasts_on_ends_with_the_observation() -> None:
    (running,) = events(analysis([life(7)], lasted=3 * S))[:1]
    assert running["dur"] == 3e6
    stays = [each for each in events(crowd()) if each["name"] == "zombie for 4.99 s, still"]
    assert stays[0]["ts"] + stays[0]["dur"] == 6e6


def test_no_digit_is_lost_after_a_year_of_uptime() -> None:
    started = 31_536_000 * S + 123_456_789
    child = ended(7, started - BEGAN + 3_600 * S + 1, ran=1)
    found = events(analysis([child], started_ns=started, ended_ns=started + 3_700 * S))
    assert found[0]["ts"] == 3_600_000_000.001 or any(
        each["ts"] == 3_600_000_000.001 for each in found
    )
    assert trace(analysis([child], started_ns=started))["otherData"]["zero_ns"] == str(started)


def test_a_pid_used_twice_has_two_tracks() -> None:
    found = events(analysis([app(), ended(7, 0), ended(7, 2 * S)]), "M")
    tracks = [each["pid"] for each in found if each["name"] == "process_name"]
    assert len(set(tracks)) == len(tracks)
    assert 7 in tracks
    assert max(tracks) >= SYNTHETIC


def test_a_join_cut_by_death_says_how_long_it_was() -> None:
    join = Join(41231, 41231, None, None, BEGAN + 100 * MS, None, None)
    observed = replace(analysis([app(), ended(41231, 0)]), joins=[join])
    check_rules(trace(observed))
    (found,) = named(events(observed), "join")
    assert found["dur"] == 900_000.0
    assert found["args"]["whole_duration_ns"] == 5_900 * MS


def test_adoptions_are_instants() -> None:
    (instant,) = [each for each in events(crowd(), "i") if each["pid"] == 41235]
    assert instant["name"] == "reparented to subreaper containerd-shim 990"
    assert instant["args"]["while_zombie"] is True


def test_hostile_texts_are_printable_everywhere() -> None:
    text = rendered(hostile(), format_="perfetto")
    assert text.isascii()

    def texts(value: Any) -> Iterable[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for key, each in value.items():
                yield key
                yield from texts(each)
        elif isinstance(value, list):
            for each in value:
                yield from texts(each)

    found = set(texts(json.loads(text)))
    assert all(each.isprintable() for each in found)
    assert printable(HOSTILE[9]) in found


def test_a_zombie_from_before_never_ran_here() -> None:
    reaped = found_dead(8, reap_ns=BEGAN + S, reaper=APP, reaped_by=ReapedBy.PARENT)
    observed = analysis([found_dead(7), reaped])
    check_rules(trace(observed))
    still, gone = named(events(observed), "zombie")
    assert (still["name"], gone["name"]) == (
        "zombie since before the observation, still",
        "zombie since before the observation",
    )
    assert (still["dur"], gone["dur"]) == (6 * S / 1000, S / 1000)
    assert still["args"]["parent"] == "python3 41230"
    assert "zombie_interval_ns" not in gone["args"]
    assert named(events(observed), "running") == []
