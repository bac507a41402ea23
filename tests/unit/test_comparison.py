# SPDX-License-Identifier: Apache-2.0
"""Before and after: which lines belong together, what is called a change, and in which words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Optional

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from tests.unit.hostile_analysis import hostile
from tests.unit.life_builders import (
    MS,
    US,
    S,
    analysis,
    app,
    crowd,
    ended,
    found_dead,
    rendered,
    zombie,
)
from zombiebpf.cli.compare import compare as command
from zombiebpf.diagnosis.comparison import (
    BETTER,
    FEW,
    GONE,
    MIXED,
    NEW,
    SAME,
    WORSE,
    Comparison,
    compare,
    fisher_exact_p,
    mann_whitney_p,
)
from zombiebpf.errors import UsageError
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.stack import Frame
from zombiebpf.reports.comparison import COMPARISONS
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.trace.load import load_analysis

LINE = Frame("main", "/srv/app.py", 42)


def observed(waits: list[int], site: Optional[Frame] = LINE, still: int = 0) -> Analysis:
    """Children of one line, which were zombies for so long, and some that are zombies still."""
    lives = [
        ended(50_000 + number, number, latency=44 * US + wait, fork_site=site)
        for number, wait in enumerate(waits)
    ]
    lives += [zombie(60_000 + number, number, fork_site=site) for number in range(still)]
    return analysis(lives)


def verdict(before: list[int], after: list[int]) -> str:
    return compare(observed(before), observed(after)).sites[0].verdict


def written(found: Comparison, format_: str = "text", width: int = 120) -> str:
    out = io.StringIO()
    COMPARISONS[format_](found, ("before.db", "after.db"), out, TextOptions(width))
    return out.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([500 * MS] * 5, [100 * US] * 5, BETTER),
        ([100 * US] * 5, [500 * MS] * 5, WORSE),
        ([100 * US] * 4, [500 * MS] * 500, FEW),
        ([100 * US] * 20, [100 * US] * 20, SAME),
        # all differ, but so few do so by chance in 1.2 % of the cases
        ([n * US for n in range(100, 105)], [n * US for n in range(200, 205)], SAME),
        (list(range(1000, 2000)), list(range(1010, 2010)), SAME),  # hardly more
        ([100 * US + n for n in range(30)], [109 * US + n for n in range(30)], SAME),  # not 1.1
        ([100 * US + n for n in range(30)], [111 * US + n for n in range(30)], WORSE),
        ([111 * US + n for n in range(30)], [100 * US + n for n in range(30)], BETTER),
        ([109 * US + n for n in range(30)], [100 * US + n for n in range(30)], SAME),
        ([100 * US, 120 * US, 140 * US] * 7, [130 * US, 110 * US, 145 * US] * 7, SAME),
        # the median is the same, but far more are late
        ([100 * US] * 100, [100 * US] * 60 + [300 * MS] * 40, WORSE),
        # fewer are late, but the others wait longer
        ([10 * US] * 60 + [300 * MS] * 40, [90 * MS] * 100, MIXED),
    ],
)
def test_verdicts(before: list[int], after: list[int], expected: str) -> None:
    assert verdict(before, after) == expected


def test_a_line_of_one_side_has_no_counterpart() -> None:
    added, gone = compare(lines(LINE), lines(LINE._replace(function="other"))).sites
    assert (added.verdict, added.before_at, added.after_at) == (
        NEW,
        None,
        LINE._replace(function="other"),
    )
    assert (gone.verdict, gone.before_at, gone.after_at) == (GONE, LINE, None)


def test_those_that_are_zombies_still_count_as_late() -> None:
    found = compare(observed([100 * US] * 20), observed([100 * US] * 10, still=10)).whole
    assert (found.after.late, found.after.still, found.after.zombies) == (10, 10, 20)
    assert found.verdict == WORSE
    assert found.after.intervals is not None
    assert found.after.intervals.max_ns > 4_000 * MS


def test_late_is_from_100_ms_on() -> None:
    side = compare(observed([100 * MS, 100 * MS - 1]), observed([])).whole.before
    assert (side.lives, side.zombies, side.late) == (2, 2, 1)


def test_figures_have_their_numbers() -> None:
    row = compare(observed([200 * US] * 5), observed([100 * US] * 7)).sites[0]
    assert (row.before.lives, row.after.lives) == (5, 7)
    assert row.median_ratio == 0.5
    assert row.p_value is not None
    assert row.p_value < 0.01
    assert row.before.kinds == {"wait4": 5}
    assert row.before.latency is not None
    assert (row.before.latency.count, row.before.latency.p50_ns) == (5, 244 * US)


def lines(*frames: Frame) -> Analysis:
    return analysis([ended(7 + n, n, fork_site=frame) for n, frame in enumerate(frames)])


@pytest.mark.parametrize(
    ("old", "new", "together"),
    [
        (LINE, LINE, True),
        (LINE, LINE._replace(line=50), True),  # moved within its function
        (LINE, LINE._replace(file="/opt/v2/app.py"), True),  # deployed elsewhere
        (LINE, LINE._replace(file="/opt/v2/app.py", line=50), True),
        (LINE, LINE._replace(function="other"), False),
        (LINE, LINE._replace(file="/srv/other.py"), False),
    ],
)
def test_lines_that_moved_are_found_again(old: Frame, new: Frame, together: bool) -> None:
    found = compare(lines(old), lines(new)).sites
    assert len(found) == (1 if together else 2)
    assert {row.verdict for row in found} == ({FEW} if together else {NEW, GONE})


def test_two_lines_of_a_function_that_was_deployed_elsewhere_keep_their_numbers() -> None:
    old = [LINE, LINE._replace(line=60)]
    new = [each._replace(file="/opt/v2/pkg/app.py") for each in old]
    found = compare(lines(*old), lines(*new)).sites
    assert {(row.before_at, row.after_at) for row in found} == set(zip(old, new))


def test_a_line_without_a_directory_is_compared_by_its_name() -> None:
    old, new = Frame("main", "<string>", 42), Frame("main", "/srv/<string>", 50)
    (row,) = compare(lines(old), lines(new)).sites
    assert (row.before_at, row.after_at) == (old, new)


def test_where_two_lines_might_be_meant_none_is() -> None:
    two = [LINE._replace(line=line) for line in (50, 60)]
    found = compare(lines(LINE), lines(*two)).sites
    assert sorted(row.verdict for row in found) == [GONE, NEW, NEW]


def test_the_unknown_line_is_compared_with_itself() -> None:
    found = compare(observed([1], None), observed([1], None)).sites
    assert [(row.before_at, row.after_at, row.verdict) for row in found] == [(None, None, FEW)]
    only = compare(observed([1], None), observed([1])).sites
    assert sorted(row.verdict for row in only) == [GONE, NEW]


def test_the_worst_come_first() -> None:
    def both(a: int, b: int) -> Analysis:
        first, second = observed([a] * 9), observed([b] * 9, LINE._replace(function="g", line=9))
        return analysis([*first.lives, *second.lives])

    found = compare(both(500 * MS, 100 * US), both(100 * US, 500 * MS)).sites
    assert [row.verdict for row in found] == [WORSE, BETTER]


def test_lines_of_one_verdict_are_sorted_by_late_zombies_then_by_children() -> None:
    late, many, few = (LINE._replace(function=name) for name in ("late", "many", "few"))
    after = [
        *observed([S], late).lives,
        *observed([US], few).lives,
        *observed([US] * 3, many).lives,
    ]
    found = compare(analysis([]), analysis(after)).sites
    assert [(row.verdict, row.after_at) for row in found] == [(NEW, late), (NEW, many), (NEW, few)]


def test_lines_that_are_alike_stay_in_their_order() -> None:
    names = [LINE._replace(function=f"f{number}") for number in range(20)]
    found = compare(lines(*names), lines(*names)).sites
    assert [row.after_at for row in found] == names


def test_a_loss_is_of_one_side() -> None:
    lossy = analysis([app()], lost_events=1)
    assert compare(lossy, analysis([app()])).complete == (False, True)
    assert compare(analysis([app()]), lossy).complete == (True, False)


def test_mann_whitney_agrees_with_scipy() -> None:
    # scipy.stats.mannwhitneyu(..., method="asymptotic"): 0.0121857803..., 0.0268884541...,
    # 0.5402913746..., 1.0
    assert mann_whitney_p([1, 1, 1, 2, 2], [2, 2, 3, 3, 3]) == pytest.approx(0.02688845, rel=1e-5)
    assert mann_whitney_p([1], [2, 3]) == pytest.approx(0.54029137, rel=1e-5)
    assert mann_whitney_p([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(0.01218578, rel=1e-5)
    assert mann_whitney_p([1, 1, 1], [1, 1, 1]) == 1.0
    assert mann_whitney_p([3, 1, 2], [1, 2, 3]) == 1.0


def test_fisher_agrees_with_scipy() -> None:
    # scipy.stats.fisher_exact([[8, 2], [1, 5]]).pvalue
    assert fisher_exact_p(8, 10, 1, 6) == pytest.approx(0.03496503496503, rel=1e-9)
    # Fisher's lady tasting tea: 34 of 70 tables are as unlikely as 3 of 4 and 1 of 4
    assert fisher_exact_p(3, 4, 1, 4) == pytest.approx(34 / 70, rel=1e-9)
    assert fisher_exact_p(0, 10, 0, 10) == pytest.approx(1.0)
    assert fisher_exact_p(5, 10, 50, 100) == pytest.approx(1.0)
    assert fisher_exact_p(0, 1, 1, 3) == 1.0  # a probability, although the sum is rounded up


# --- reports ---


def better() -> Comparison:
    return compare(observed([500 * MS] * 6), observed([100 * US] * 7, LINE._replace(line=50)))


def test_text_says_what_changed_by_how_much_and_of_how_many() -> None:
    text = written(better())
    assert "better: 6 of 6 processes were zombies for 100 ms or more, then 0 of 7" in text
    line = next(line for line in text.splitlines() if line.startswith("app.py:42 → app.py:50"))
    for words in ("6 → 7", "6/6 → 0/7", "500 ms → 100 µs", "5,000 times shorter"):
        assert words in line


@pytest.mark.parametrize("width", [80, 100, 160])
def test_text_fits(width: int) -> None:
    assert max(map(cell_len, written(better(), width=width).splitlines())) <= width + 25


def test_json_has_all_figures() -> None:
    document = json.loads(written(better(), "json"))
    assert document["schema"] == "zombiebpf-compare/1"
    row = document["fork_sites"][0]
    assert row["before_at"] == {"file": "/srv/app.py", "line": 42, "function": "main"}
    assert row["after_at"]["line"] == 50
    assert row["before"]["zombie_interval_ns"]["count"] == 6
    assert row["after"]["late"] == 0
    assert document["before"] == {"name": "before.db", "complete": True}


def test_html_has_the_answer_and_no_script() -> None:
    page = written(better(), "html")
    assert "<h1>better: 6 of 6" in page
    assert "<script" not in page
    assert "app.py:42 → app.py:50" in page


def test_losses_are_told_in_each_format() -> None:
    lossy = analysis([app()], lost_events=1)
    found = compare(lossy, analysis([app()]))
    assert "INCOMPLETE: records were lost in before.db" in written(found)
    assert json.loads(written(found, "json"))["before"]["complete"] is False
    assert "Records were lost in before.db" in written(found, "html")


@pytest.mark.parametrize("format_", COMPARISONS)
def test_hostile_texts_stay_texts(format_: str) -> None:
    text = written(compare(hostile(), hostile()), format_)
    text.encode("utf-8")
    assert "<script>window" not in text or format_ != "html"
    lines_ = text.splitlines()
    assert all(line.isprintable() for line in lines_)


# --- the command, and what it reads ---


def save(directory: Path, name: str, what: Analysis) -> str:
    file = directory / name
    file.write_text(rendered(what, format_="json"), encoding="utf-8")
    return str(file)


def test_a_json_report_is_read_again(tmp_path: Path) -> None:
    again = load_analysis(save(tmp_path, "crowd.json", crowd()))
    for one, two in zip(crowd().lives, again.lives):
        for name in ("pid", "start_ns", "zombie_interval_ns", "reap_latency_ns", "reaped_by",
                     "state", "reaper", "fork_site", "comm", "argv"):  # fmt: skip
            assert getattr(one, name) == getattr(two, name), name
    assert again.meta.command == ["python3", "app.py"]


def test_the_command(tmp_path: Path) -> None:
    before = save(tmp_path, "a.json", observed([500 * MS] * 6))
    after = save(tmp_path, "b.json", observed([100 * US] * 6))
    to = str(tmp_path / "out.html")
    result = CliRunner().invoke(command, [before, after, "--format", "html", "--report", to])
    assert result.exit_code == 0, result.output
    assert "better at app.py:42" in Path(to).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"{", b"{}", b'{"schema": "zombiebpf/1"}', b'{"schema": 1}', b"\xff{", None],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "odd"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_analysis(str(file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_document_of_wrong_types_is_refused(tmp_path: Path) -> None:
    document = json.loads(rendered(crowd(), format_="json"))
    document["processes"][3]["reap_ns"] = "soon"
    file = tmp_path / "odd.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(UsageError):
        load_analysis(str(file))


def test_zombies_from_before_are_late_but_in_no_percentile(tmp_path: Path) -> None:
    before = analysis([found_dead(pid) for pid in range(100, 106)])
    after = analysis([ended(pid) for pid in range(100, 106)])
    for one in (before, load_analysis(save(tmp_path, "before.json", before))):
        row = compare(one, after).whole
        assert (row.before.zombies, row.before.late, row.before.still) == (6, 6, 6)
        assert row.before.intervals is None
        assert (row.median_ratio, row.p_value) == (None, None)


def test_some_zombies_from_before_leave_the_others_their_percentiles() -> None:
    mixed = analysis([found_dead(7), *(ended(pid) for pid in range(100, 106))])
    side = compare(mixed, mixed).whole.before
    assert (side.zombies, side.late) == (7, 1)
    assert side.intervals is not None
    assert (side.intervals.count, side.intervals.max_ns) == (6, 87 * US)
