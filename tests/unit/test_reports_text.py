# SPDX-License-Identifier: Apache-2.0
"""The contents of the text report."""

from __future__ import annotations

import io
import re

from tests.unit.life_builders import (
    BEGAN,
    MS,
    US,
    S,
    adopted,
    analysis,
    app,
    article,
    autoreaped,
    crowd,
    ended,
    life,
    line_of,
    rendered,
    section,
    zombie,
)
from zombiebpf.model.life import ReapedBy
from zombiebpf.reports import text
from zombiebpf.reports.terminal import TextOptions
from zombiebpf.trace import observe


def test_the_article_at_80_columns_whole() -> None:
    observed = analysis(
        article().lives,
        hooks={"fork": "sched_process_fork", "zombie": "signal_generate"},
        precision={"fork": "exact", "zombie": "exact"},
    )
    assert (
        rendered(observed)
        == """\
zombiebpf 0.1.0: python3 app.py
observed for 6 s, kernel 6.18.0-1-amd64

  PID  COMMAND           ENDED   ZOMBIE FOR  REAP LATENCY
41230  python3 app.py    exit 0       87 µs        131 µs
       │ forked by zombiebpf 41229; reaped by parent zombiebpf 41229, wait4
41231  └ python3 app.py  exit 0       87 µs        131 µs
           forked by python3 41230; reaped by parent python3 41230, wait4

Timeline
                          0                                                  6 s
  41230 python3 app.py    ─────────────────────────────────────────────┤
  └ 41231 python3 app.py  ───────────────────────────┤
  ─ runs   Z zombie   ┴ reparented   ┤ reaped

Totals
  2 processes  running 0  zombie 0  reaped 2
  reaped by  parent 2  adopter 0  tracer 0  kernel 0  unseen 0
  of these  orphaned 0  killed by a signal 0

Statistics
                   COUNT     MIN     P50     P90     P99     MAX
  zombie interval      2   87 µs   87 µs   87 µs   87 µs   87 µs
  reap latency         2  131 µs  131 µs  131 µs  131 µs  131 µs

Zombie interval
  64 µs - 128 µs  2  ████████████████████████████████████████

Reap latency
  128 µs - 256 µs  2  ████████████████████████████████████████

Hooks
  fork    sched_process_fork  exact
  zombie  signal_generate     exact

Findings
  nothing to find: 1 child, none a zombie for more than 87 µs

lost records: 0
"""
    )


def test_each_way_to_end() -> None:
    text = rendered(crowd(), 200)
    assert "  exit 3  " in line_of(text, 41231)
    assert "  SIGKILL  " in line_of(text, 41232)
    assert "  SIGSEGV (core)  " in line_of(text, 41233)
    assert line_of(text, 41242).endswith("  running")


def test_each_reaper() -> None:
    text = rendered(crowd(), 200)
    assert "parent python3 41230, wait4" in line_of(text, 41231)
    assert "adopter systemd 1, waitid WNOHANG" in line_of(text, 41234)
    assert "kernel, nobody waited" in line_of(text, 41238)
    assert "tracer strace 50000, wait4" in line_of(text, 41244)


def test_each_reparenting() -> None:
    text = rendered(crowd(), 200)
    assert line_of(text, 41234).endswith("→ init systemd 1")
    assert line_of(text, 41235).endswith("→ subreaper containerd-shim 990 while zombie")
    assert line_of(text, 41243).endswith("→ thread 41230 of python3 41230")
    assert "python3 41230 (thread 41236)" in line_of(text, 41243)
    assert "-> init systemd 1" in rendered(crowd(), 80, unicode=False)


def test_a_reparenting_without_a_column_has_a_line() -> None:
    lives = [app(), *(ended(pid, reparents=[adopted()]) for pid in (7, 23))]
    text = rendered(analysis(lives), 112)
    assert "REPARENTED" not in text
    assert "REAPED BY" in text
    assert [line.split("→")[1] for line in text.splitlines() if "→" in line] == [
        " init systemd 1"
    ] * 2


def test_an_autoreaped_child_was_no_zombie() -> None:
    text = rendered(analysis([autoreaped(7)]))
    assert re.search(r" no zombie +40 µs$", line_of(text, 7))
    assert "not seen" not in text


def test_a_zombie_still_catches_the_eye() -> None:
    observed = analysis([app(), zombie(7, ran=2_800 * MS - 44 * US)])
    text = rendered(observed)
    assert "ZOMBIE for 3.2 s, still" in line_of(text, 7)
    assert "Still zombie at the end: 1" in text
    assert "7  ZOMBIE for 3.2 s, still: python3; forked by python3 41230" in text
    colored = rendered(observed, color=True)
    assert re.search(r"\x1b\[1;31mZOMBIE for 3.2 s, still", colored)
    assert "Still zombie" not in rendered(article())


def test_many_zombies_are_not_all_repeated() -> None:
    text = rendered(analysis([zombie(pid) for pid in range(100, 123)]))
    assert text.count("ZOMBIE for") == 23 + 10
    assert "  and 13 more, in the list above" in text


def test_late_stamps_are_shown_as_bounds() -> None:
    lives = [
        ended(7, zombie_exact=False),
        ended(23, reap_exact=False),
        ended(41, zombie_exact=False, reap_exact=False),
        ended(43, zombie_ns=BEGAN + S + 150 * US, zombie_exact=False),
        zombie(47, zombie_exact=False),
    ]
    text = rendered(analysis(lives, lasted=2 * S))
    assert re.search(r" >= 87 µs +131 µs$", line_of(text, 7))
    assert re.search(r" <= 87 µs +<= 131 µs$", line_of(text, 23))
    assert re.search(r" ~ 87 µs +<= 131 µs$", line_of(text, 41))
    assert re.search(r" >= 0 ns +131 µs$", line_of(text, 43))
    assert "ZOMBIE for >= 1000 ms, still" not in text
    assert "ZOMBIE for >= 1 s, still" in line_of(text, 47)
    assert "bounds taken for values: 4 of the zombie intervals, 2 of the reap latencies" in text


def test_what_was_not_seen_is_a_dash_and_a_reason() -> None:
    no_signal = {"zombie_ns": "exit_signal 0", "zombie_interval_ns": "exit_signal 0"}
    lives = [
        ended(7, zombie_ns=None, unseen=no_signal),
        ended(23, zombie_ns=None, unseen=no_signal),
        ended(41, forker=None, unseen={"forker": "it ran before the \x1b[31mobservation"}),
        ended(43, reaper=None, reaped_by=ReapedBy.UNSEEN, unseen={"reaper": "freed, not reaped"}),
        ended(47, exit_ns=None),
        ended(53, reaper=None),
    ]
    text = rendered(analysis(lives), 200)
    assert re.search(r" - +131 µs ", line_of(text, 7))
    assert line_of(text, 43).endswith(" -")
    assert "- zombie instant, zombie interval not seen for 2: exit_signal 0\n" in text
    assert r"- forker not seen for 1: it ran before the \x1b[31mobservation" in text
    assert "- reaper not seen for 1: freed, not reaped\n" in text
    assert "- exit instant not seen for 1: no reason was recorded\n" in text
    assert "- reaper not seen for 1: no reason was recorded\n" in text
    assert "forker -; reaped by" in rendered(analysis(lives), 80)


def test_what_cannot_be_is_blank() -> None:
    text = rendered(analysis([life(7)]))
    assert line_of(text, 7).endswith("  running")
    assert "not seen" not in text


def test_zero_processes() -> None:
    text = rendered(analysis([], command=[]))
    assert text.startswith("zombiebpf 0.1.0\nobserved for 6 s")
    assert "No process was seen." in text
    assert "  0 processes  running 0  zombie 0  reaped 0\n" in text
    assert "  zombie interval      0\n" in text
    assert "Reap latency\n" not in text
    assert text.endswith("\nlost records: 0\n")


def test_totals() -> None:
    assert section(rendered(crowd()), "Totals") == [
        "  20 processes  running 1  zombie 2  reaped 17",
        "  reaped by  parent 13  adopter 1  tracer 1  kernel 1  unseen 1",
        "  of these  orphaned 2  killed by a signal 2",
    ]


def test_intervals_and_latencies_have_their_own_figures() -> None:
    lives = [ended(pid, latency=pid * MS + 44 * US) for pid in (7, 23, 41, 43)]
    text = rendered(analysis(lives))
    _, intervals, latencies = section(text, "Statistics")
    assert re.split("  +", intervals.strip()) == [
        "zombie interval", "4", "7 ms", "23 ms", "43 ms", "43 ms", "43 ms"
    ]  # fmt: skip
    assert re.split("  +", latencies.strip()) == [
        "reap latency", "4", "7.04 ms", "23 ms", "43 ms", "43 ms", "43 ms"
    ]  # fmt: skip
    assert section(rendered(analysis(lives), unicode=False), "Zombie interval") == [
        "   4.1 ms - 8.19 ms  1  " + "#" * 20,
        "  8.19 ms - 16.4 ms  0",
        "  16.4 ms - 32.8 ms  1  " + "#" * 20,
        "  32.8 ms - 65.5 ms  2  " + "#" * 40,
    ]


def test_losses_are_loud() -> None:
    observed = analysis(article().lives, lost_events=9, lost_by={"ring buffer full": 9, "x": 0})
    text = rendered(observed)
    assert text.endswith(
        "\nlost records: 9\nINCOMPLETE: facts are missing above, and no conclusion holds\n"
        "  lost by  ring buffer full 9\n"
    )
    assert "\x1b[1;31mINCOMPLETE" in rendered(observed, color=True)
    assert "INCOMPLETE" not in rendered(article())
    nameless = rendered(analysis([], lost_events=1))
    assert nameless.endswith("INCOMPLETE: facts are missing above, and no conclusion holds\n"
                             "  lost by  a cause that was not recorded\n")  # fmt: skip


def test_the_tree_alone() -> None:
    out = io.StringIO()
    with observe(article()) as observation:
        text.write_tree(observation, out, TextOptions(width=80))
    lines = out.getvalue().splitlines()
    assert lines[3].startswith("  PID  COMMAND")
    assert any("└ python3" in line for line in lines)
    assert "Totals" not in lines
    assert lines[-1] == "lost records: 0"
