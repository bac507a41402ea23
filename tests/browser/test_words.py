# SPDX-License-Identifier: Apache-2.0
"""The page's scripts write facts as zombiebpf.wording does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.unit.life_builders import APP, BEGAN, MS, S, analysis, app, ended
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import Actor
from zombiebpf.reports.html import write_page
from zombiebpf.trace import observe
from zombiebpf.wording.wording import UNICODE_WORDS

MINUTE, HOUR = 60 * S, 3600 * S

# Around each change of unit or precision, and ties, which Python rounds to the even digit.
DURATIONS = (
    0, 1, 999, 1_000, 1_125, 1_375, 1_625, 9_994, 9_995, 10_250, 10_750, 69_700, 99_949, 99_950,
    100_500, 101_500, 999_400, 999_499, 999_500, 999_600, MS, 1_125_000, 9_994_999, 9_995_000,
    99_949_999, 99_950_000, 598_400_000, 999_499_999, 999_500_000, S, 1_125_000_000,
    9_995_000_000, 59_940_000_000, 59_949_999_999, 59_950_000_000, 59_960_000_000, MINUTE,
    67 * S + 499_999_999, 67 * S + 500_000_000, 75 * S, HOUR - 1, HOUR, 25 * HOUR,
    25 * HOUR + 59 * MINUTE + 59 * S, 24 * HOUR - 1, 24 * HOUR, 100 * 24 * HOUR, -1, -69_700,
)  # fmt: skip


def test_durations(page: Page, unjoined: Path) -> None:
    page.open(unjoined)
    written = page.js("return arguments[0].map((ns) => Z.duration(ns))", list(DURATIONS))
    assert written == [UNICODE_WORDS.duration(ns) for ns in DURATIONS]


@pytest.mark.parametrize("decade", range(3, 14))
def test_every_step_of_a_decade(page: Page, unjoined: Path, decade: int) -> None:
    durations = [step * 10**decade // 2_000 for step in range(2_000, 20_000, 5)]
    page.open(unjoined)
    written = page.js("return arguments[0].map((ns) => Z.duration(ns))", durations)
    assert written == [UNICODE_WORDS.duration(ns) for ns in durations]


WAITER = Actor(APP.pid, APP.pid + 6, APP.comm)


def joined_by_a_thread() -> Analysis:
    child = ended(41231, MS)
    join = Join(
        WAITER.pid, WAITER.tid, child.pid, None, BEGAN, BEGAN + S, "reaped",
        children=(Child(child.pid, child.start_ns),),
    )  # fmt: skip
    return Analysis(analysis([]).meta, [app(), child], [join])


def test_the_thread_of_a_join(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "thread.html"
    with open(file, "w", encoding="utf-8") as out, observe(joined_by_a_thread()) as observation:
        write_page(observation, out, lambda frame: None)
    page.open(file)
    facts = page.js("return Z.facts(1).map(([fact, value]) => fact + ': ' + value)")
    (waited,) = (fact for fact in facts if fact.startswith("waited for"))
    name, pid_and_thread = UNICODE_WORDS.actor(WAITER).split(" ", 1)
    assert name == APP.comm
    assert f"by {pid_and_thread}, " in waited
