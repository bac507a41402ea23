# SPDX-License-Identifier: Apache-2.0
"""The end of the text report: figures, what was not observed, and how it was observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Optional

from rich.cells import cell_len

from zombiebpf.model.analysis import Meta
from zombiebpf.model.life import Life, ReapedBy
from zombiebpf.model.observation import Observation
from zombiebpf.model.statistics import Bucket, Distribution, Spread, Totals
from zombiebpf.reports.code_sections import write_findings, write_joins, write_sites
from zombiebpf.reports.text_page import TextPage, left, right
from zombiebpf.reports.tree import WHOLE
from zombiebpf.wording.wording import Wording, count_of

ZOMBIES_NAMED = 10  # of those that are zombies at the end
BAR = 40  # columns of the longest bar of a histogram
SIDE_BY_SIDE = 150  # columns from which the two histograms are printed side by side

# What people call the contract's fields.
FACTS = {
    "fork_ns": "fork instant",
    "exec": "exec",
    "exit_ns": "exit instant",
    "zombie_ns": "zombie instant",
    "reap_ns": "reap instant",
    "exit_status": "exit status",
    "zombie_interval_ns": "zombie interval",
    "reap_latency_ns": "reap latency",
    "reaped_by": "who reaped",
    "reap_call": "reaping call",
    "reap_call.stack": "reaper's stack",
    "fork_stack": "forker's stack",
    "reparents": "reparenting",
    "argv": "command line",
    "comm": "name",
    "pidns": "PID namespace",
}


def write_summary(page: TextPage, observation: Observation) -> None:
    """Write everything after the list of processes."""
    meta = observation.meta
    _write_absences(page, observation)
    totals = observation.totals()
    _write_still_zombies(page, observation, totals.zombie)
    _write_totals(page, totals)
    intervals = observation.zombie_intervals().whole
    latencies = observation.reap_latency()
    write_statistics(page, intervals, latencies, (totals.interval_bounds, totals.latency_bounds))
    write_histograms(page, intervals, latencies)
    write_joins(page, observation)
    write_sites(page, observation)
    _write_hooks(page, meta)
    write_findings(page, observation)
    _write_losses(page, meta)


def absences(life: Life, words: Wording) -> Iterator[tuple[str, str]]:
    """Return (field, reason) of each unknown fact, also of one shown as `-` without a reason."""
    yield from life.unseen.items()
    reaper = words.reaper(life)
    if reaper and life.reaper is None and life.reaped_by is not ReapedBy.KERNEL:
        reaper = "-"
    shown = (
        (words.actor(life.forker), ("forker",)),
        (words.command(life), ("argv", "comm")),
        (words.ending(life), ("exit_status", "signal")),
        (words.zombie_interval(life), ("zombie_ns", "zombie_interval_ns")),
        (words.reap_latency(life), ("exit_ns", "reap_latency_ns")),
        (reaper, ("reaper", "reaped_by")),
    )
    for text, fields in shown:
        if text == "-" and not any(field in life.unseen for field in fields):
            yield fields[0], "no reason was recorded"


def fact_name(field: str) -> str:
    """Return what people call a field of the contract."""
    return FACTS.get(field, field.replace("_", " "))


def _write_absences(page: TextPage, observation: Observation) -> None:
    counts: Counter[tuple[str, str]] = Counter()  # of processes, by facts and reason
    for life, count in observation.absences():
        together: dict[str, list[str]] = {}
        for field, reason in absences(life, page.wording):
            together.setdefault(reason, []).append(fact_name(field))
        for reason, names in together.items():
            counts[", ".join(names), reason] += count
    if counts:
        page.line()
    for (facts, reason), count in counts.items():
        text = page.wording.printable(f"{facts} not seen for {count}: {reason}")
        page.wrapped("- ", [text], hang="  ")


def _write_still_zombies(page: TextPage, observation: Observation, count: int) -> None:
    zombies = observation.still_zombies(ZOMBIES_NAMED)
    if not zombies:
        return
    page.line()
    page.line((f"Still zombie at the end: {count}", "bold red"))
    words, meta = page.wording, observation.meta
    width = max(len(words.pid(life)) for life in zombies)
    for life in zombies:
        still = words.still_zombie(life, meta.ended_ns, meta.boottime_offset_ns)
        owner = words.reparentings(life) or words.origin(life)
        comm = words.printable(life.comm) if life.comm else "-"
        margin = f"  {right(words.pid(life), width)}  "
        page.wrapped(margin, [f"{still}: {comm}", owner], hang=" " * len(margin))
    if count > ZOMBIES_NAMED:
        above = ", in the list above" if observation.count <= WHOLE else ""
        page.line(f"  and {count - ZOMBIES_NAMED} more{above}")


def _write_totals(page: TextPage, result: Totals) -> None:
    page.heading("Totals")
    states = {"running": result.running, "zombie": result.zombie, "reaped": result.reaped}
    reaped_by = {
        "parent": result.by_parent,
        "adopter": result.by_adopter,
        "tracer": result.by_tracer,
        "kernel": result.by_kernel,
        "unseen": result.by_unseen,
    }
    of_these = {"orphaned": result.orphaned, "killed by a signal": result.killed}
    processes = count_of(result.processes, "process", "processes")
    for title, counts in ((processes, states), ("reaped by", reaped_by), ("of these", of_these)):
        phrases = [f"{name} {count}" for name, count in counts.items()]
        page.wrapped(f"  {title}  ", phrases, gap="  ")


def write_statistics(
    page: TextPage, intervals: Spread, latencies: Spread, bounds: tuple[int, int]
) -> None:
    """Write the percentiles of zombie intervals and reap latencies, and how many are bounds."""
    page.heading("Statistics")
    rows = [["", "COUNT", "MIN", "P50", "P90", "P99", "MAX"]]
    for name, spread in (("zombie interval", intervals), ("reap latency", latencies)):
        found = spread.distribution
        figures = distribution_words(page.wording, found) or [""] * 5
        rows.append([name, str(found.count if found is not None else 0), *figures])
    widths = [max(map(cell_len, column)) for column in zip(*rows)]
    for name, *figures in rows:
        cells = ("  " + right(cell, width) for cell, width in zip(figures, widths[1:]))
        page.line((f"  {left(name, widths[0])}{''.join(cells)}", "" if name else "bold"))
    if any(bounds):
        page.line(
            f"  bounds taken for values: {bounds[0]} of the zombie intervals,"
            f" {bounds[1]} of the reap latencies"
        )


def distribution_words(words: Wording, found: Optional[Distribution]) -> list[str]:
    """Return minimum, p50, p90, p99 and maximum; empty if there are no durations."""
    if found is None:
        return []
    figures = (found.min_ns, found.p50_ns, found.p90_ns, found.p99_ns, found.max_ns)
    return [words.duration(each) for each in figures]


def write_histograms(page: TextPage, intervals: Spread, latencies: Spread) -> None:
    """Write a histogram of each, side by side if the page is wide enough."""
    found = [
        (title, _bars(page, spread.histogram))
        for title, spread in (("Zombie interval", intervals), ("Reap latency", latencies))
        if spread.histogram
    ]
    if len(found) == 2 and page.width >= SIDE_BY_SIDE:
        (first, one), (second, two) = found
        half = max(map(cell_len, one)) + 6
        page.line()
        page.line((left(first, half) + second, "bold"))
        for index in range(max(len(one), len(two))):
            near = one[index] if index < len(one) else ""
            far = two[index] if index < len(two) else ""
            page.line((left(near, half) + far, ""))
        return
    for title, bars in found:
        page.heading(title)
        for bar in bars:
            page.line(bar)


def _bars(page: TextPage, buckets: Sequence[Bucket]) -> list[str]:
    words = page.wording
    lows = [words.duration(bucket.low_ns) if bucket.low_ns else "0" for bucket in buckets]
    highs = [words.duration(bucket.high_ns) for bucket in buckets]
    most = max(bucket.count for bucket in buckets)
    low_width, high_width = max(map(cell_len, lows)), max(map(cell_len, highs))
    return [
        f"  {right(low, low_width)} - {right(high, high_width)}"
        f"  {bucket.count:>{len(str(most))}}  {_bar(bucket.count, most, page.glyphs.bar)}"
        for low, high, bucket in zip(lows, highs, buckets)
    ]


def _bar(count: int, most: int, steps: str) -> str:
    """Return a bar proportional to `count`; only that of 0 is empty."""
    parts = len(steps)  # a cell
    length = -(-count * BAR * parts // most)
    full, rest = divmod(length, parts)
    return steps[0] * full + (steps[-rest] if rest else "")


def hook_rows(meta: Meta, words: Wording) -> list[tuple[str, str, str]]:
    """Return (fact, hook, precision) of each fact; `-` if one is unknown."""
    return [
        (
            words.printable(fact),
            words.printable(meta.hooks.get(fact, "-")),
            words.printable(meta.precision.get(fact, "-")),
        )
        for fact in dict.fromkeys([*meta.hooks, *meta.precision])
    ]


def _write_hooks(page: TextPage, meta: Meta) -> None:
    page.heading("Hooks")
    rows = hook_rows(meta, page.wording)
    fact_width, hook_width, precision_width = (
        max((cell_len(row[column]) for row in rows), default=0) for column in range(3)
    )
    beside = fact_width + hook_width + precision_width + 6 <= page.width
    for fact, hook, precision in rows:
        margin = f"  {left(fact, fact_width)}  "
        if beside:
            page.line(margin, left(hook, hook_width) + "  ", precision)
        else:
            page.wrapped(margin, [f"{hook}:", precision], gap=" ", hang=" " * cell_len(margin))


def _write_losses(page: TextPage, meta: Meta) -> None:
    page.line()
    page.line((f"lost records: {meta.lost_events}", "bold red" if meta.lost_events else ""))
    if not meta.lost_events:
        return
    causes = [
        f"{page.wording.printable(cause)} {count}" for cause, count in meta.lost_by.items() if count
    ]
    page.line(("INCOMPLETE: facts are missing above, and no conclusion holds", "bold red"))
    page.wrapped("  lost by  ", causes or ["a cause that was not recorded"], "bold red", gap=", ")
