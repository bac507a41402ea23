# SPDX-License-Identifier: Apache-2.0
"""Write docs/performance.md and its plot from a bench's results. Pure: results in, text out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Optional

import jinja2

from bench import budgets
from bench.budgets import CALLS_BESIDE_PYTHON, MIB, NAMES, Verdict, own_us, slowdown
from bench.overhead import CALLS, FOLLOWED, PROCESSES
from bench.reports import FORMATS
from bench.stacks import DEPTHS
from bench.statistics import spread

NOTHING = "-"


class Table(NamedTuple):
    """A table of text."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Bar(NamedTuple):
    """One bar of the plot; `share` is its length of the panel's width, 0 to 1."""

    name: str
    own: bool  # zombiebpf's
    share: float
    text: str


class Panel(NamedTuple):
    """One panel of the plot: bars, and ticks as (share, text)."""

    title: str
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]


def files(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of performance.md and performance.svg."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        autoescape=lambda name: name is not None and ".svg" in name,
    )  # fmt: skip
    environment.filters["table"] = markdown
    parts = document["parts"]
    page = environment.get_template("page.md.j2").render(
        machine=document["machine"],
        minutes=max(1, round(document["took_s"] / 60)),
        rounds=parts["tools"]["rounds"] if "tools" in parts else 0,
        budgets=_budget_table(document),
        unmet=sum(row.verdict is Verdict.NOT_MET for row in budgets.rows(document)),
        tables=dict(_tables(document)),
        failed=_failed(document),
    )
    plot = environment.get_template("plot.svg.j2").render(panels=panels(document))
    return {"performance.md": page, "performance.svg": plot}


def terminal(document: Mapping[str, Any]) -> str:
    """Return the budgets as lines for a terminal; those that were not measured are left out."""
    rows = [
        [cell.replace("`", "").strip("*") for cell in (*row[:3], row.verdict.value)]
        for row in budgets.rows(document)
        if row.verdict is not Verdict.NOT_MEASURED
    ]
    table = [["budget", "target", "measured", "verdict"], *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in table]
    return "\n".join(line.rstrip() for line in lines)


def markdown(table: Table) -> str:
    """Return a table in Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _budget_table(document: Mapping[str, Any]) -> Table:
    rows = [(*row[:3], row.verdict.value) for row in budgets.rows(document)]
    return Table(("what", "target", "measured", "verdict"), rows)


def _tables(document: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """Yield the tables of the parts that were measured, by name."""
    parts = document["parts"]
    if "tools" in parts:
        found = {key: each for key, each in parts["tools"]["tools"].items() if "own_us" in each}
        yield "tools", _tools(found, parts.get("storm", {}).get("tools", {}))
        yield "own", _own(found)
        yield "followed", _slow(found, FOLLOWED)
        yield "bystanders", _slow(found, [f"{name} beside" for name in (*CALLS, *PROCESSES)])
        own = {key: each for key, each in found.items() if key.startswith("zombiebpf")}
        names = [f"{name} beside python" for name in CALLS_BESIDE_PYTHON]
        yield "beside_python", _slow(own, names)
    if "start" in parts:
        yield "commands", _commands(parts["start"]["commands"])
        yield "ready", _ready(parts["start"]["ready_s"])
        yield "split", _milliseconds("part", parts["start"]["split"]["parts"])
        yield "imports", _milliseconds("package", parts["start"]["split"]["imports"])
        compiling = parts["start"]["compiling"]
        yield (
            "compiling",
            Table(("wall", "CPU"), [[_s(compiling["wall_s"]), _s(compiling["cpu_s"])]]),
        )
    if "work" in parts:
        yield "work", _work(parts["work"])
    if "probes" in parts:
        yield "probes", _probes(parts["probes"])
    if "stacks" in parts:
        yield "stacks", _stacks(parts["stacks"])
    if "alive" in parts:
        yield "alive", _alive(parts["alive"])
    if "memory" in parts:
        yield "memory", _memory(parts["memory"])
    if "reports" in parts:
        yield "reports", _reports(parts["reports"])
        yield "trace", _trace(parts["reports"])
    if "browser" in parts:
        yield "browser", Table(("processes", "what", "result"), parts["browser"])


def _work(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    rows = [
        [part, *(_us(median(each[part])) if part in each else NOTHING for each in found.values())]
        for part in next(iter(found.values()))
    ]
    total = [sum(median(values) for values in each.values()) for each in found.values()]
    rows.append(["all", *(f"**{_us(value)}**" for value in total)])
    header = ("us a process", *(NAMES.get(name, name) for name in found))
    return Table(header, rows)


def _failed(document: Mapping[str, Any]) -> list[str]:
    tools = document["parts"].get("tools", {}).get("tools", {})
    named = [f"{each['name']}: {each['error']}" for each in tools.values() if "error" in each]
    return named + [f"the part `{part}`: {error}" for part, error in document["errors"].items()]


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def _us(value: Optional[float]) -> str:
    if value is None:
        return NOTHING
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _quartiles(values: Sequence[float], digits: int = 2) -> str:
    found = spread(values)
    return f"{found.median:.{digits}f} ({found.q1:.{digits}f} to {found.q3:.{digits}f})"


def _tools(found: Mapping[str, Any], storm: Mapping[str, Any]) -> Table:
    header = (
        "tool", "version", "reaper", "zombie interval", "line", "own CPU us a process",
        "own CPU us a `start()` + `join()`", "idle s/min", "PSS MiB", "ready after s",
        "of a storm seen",
    )  # fmt: skip
    rows = []
    for key, each in found.items():
        seen = storm.get(key, {})
        share = f"{100 * seen['seen'] / seen['forks']:.1f} %" if "seen" in seen else NOTHING
        reports = each["reports"]
        idle = each.get("idle_s_per_min")
        rows.append([
            f"`{each['name']}`" if key.startswith("zombiebpf") else each["name"],
            each["version"], reports["reaper"], reports["zombie_interval"], reports["line"],
            _us(own_us(found, key, "fork_wait")), _us(own_us(found, key, "python_join")),
            f"{idle:.2f}" if idle is not None else NOTHING,
            f"{median(each['pss_bytes']) / MIB:.0f}", _quartiles(each["ready_s"]), share,
        ])  # fmt: skip
    return Table(header, rows)


def _own(found: Mapping[str, Any]) -> Table:
    rows = [
        [each["name"], *(_quartiles(each["own_us"][name], 1) for name in FOLLOWED)]
        for each in found.values()
    ]
    return Table(("own CPU, us an operation", *(NAMES[name] for name in FOLLOWED)), rows)


def _slow(found: Mapping[str, Any], names: Sequence[str]) -> Table:
    rows = []
    for key, each in found.items():
        cells = [each["name"]]
        for name in names:
            of = "fastest" if name.partition(" ")[0] in CALLS else "wall"
            wall, cpu = (slowdown(found, key, name, each) for each in (of, "cpu"))
            if wall and cpu:
                cells.append(f"{_quartiles(wall)}, CPU {median(cpu):.2f}")
            else:
                cells.append(NOTHING)
        rows.append(cells)
    return Table(("tool", *(NAMES[name.partition(" ")[0]] for name in names)), rows)


def _commands(commands: Mapping[str, Any]) -> Table:
    rows = []
    for name, each in commands.items():
        if each["wall_s"]:
            wall, cpu = _quartiles(each["wall_s"], 3), _quartiles(each["cpu_s"], 3)
            rows.append([f"`{name}`", wall, cpu])
        else:
            rows.append([f"`{name}`", each["error"], NOTHING])
    return Table(("command", "wall s", "CPU s"), rows)


def _ready(ready: Mapping[str, Sequence[float]]) -> Table:
    rows = [[f"`{key.replace('-', ' ', 1).replace('-o', ' -o')}`", _quartiles(values)]
            for key, values in ready.items()]  # fmt: skip
    return Table(("command", "ready after s"), rows)


def _milliseconds(what: str, parts: Mapping[str, Sequence[float]]) -> Table:
    medians = {name: median(values) for name, values in parts.items()}
    rows = [[name, f"{ms:.1f}"] for name, ms in sorted(medians.items(), key=lambda one: -one[1])]
    shown = [row for row in rows if float(row[1]) >= 0.5]
    rest = sum(float(row[1]) for row in rows if row not in shown)
    rows = [*shown, ["smaller ones together", f"{rest:.1f}"]]
    return Table((what, "ms"), [*rows, ["all", f"{sum(medians.values()):.1f}"]])


def _probes(found: Mapping[str, Any]) -> Table:
    columns = [(tool, workload) for tool, each in found.items() for workload in each]
    names = {name for tool, workload in columns for name in found[tool][workload]}
    totals = {
        column: sum(each["ns"] for each in found[column[0]][column[1]].values())
        for column in columns
    }

    def cost(name: str) -> float:
        return max(float(found[t][w].get(name, {}).get("ns", 0)) for t, w in columns)

    rows = []
    for name in sorted(names, key=cost, reverse=True):
        cells = [f"`{name}`"]
        for tool, workload in columns:
            each = found[tool][workload].get(name)
            cells.append(
                f"{each['ns'] / 1000:.2f} ({each['runs']:.1f} x {each['ns'] / each['runs']:.0f} ns)"
                if each else NOTHING
            )  # fmt: skip
        rows.append(cells)
    rows.append(["all", *(f"**{totals[column] / 1000:.2f}**" for column in columns)])
    titles = [f"{tool.partition('-')[2].replace('-o', ' -o')}, {NAMES[w]}" for tool, w in columns]
    return Table(("us an operation (runs x ns)", *titles), rows)


def _stacks(found: Mapping[str, Any]) -> Table:
    rows = []
    for depth in DEPTHS:
        capture = budgets.stack_ns(found, depth) / 1000
        more = (min(found[str(depth)]["all_ns"]) - min(found["0"]["all_ns"])) / 1000
        rows.append([str(depth), f"{capture:.1f}", f"{more:.1f}"])
    return Table(("frames", "us a stack", "us more in all programs, a process"), rows)


def _alive(found: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{int(count):,}", f"{each['ready_s']:.2f}", f"{each['ready_cpu_s']:.2f}",
            f"{each['idle_s_per_min']:.2f}", f"{each['pss_bytes'] / MIB:.0f}",
        ]
        for count, each in found.items()
    ]  # fmt: skip
    header = ("running processes", "ready after s", "CPU s until then", "CPU s/min afterwards",
              "PSS MiB")  # fmt: skip
    return Table(header, rows)


def _memory(found: Mapping[str, Any]) -> Table:
    rows = []
    for key, each in found.items():
        samples = each["resident_bytes"]
        rows.append([
            f"`{key.partition('-')[2].replace('-o', ' -o')}`", f"{each['forks']:,}",
            f"{each['seen']:,}", f"{samples[0] / MIB:.0f}" if samples else NOTHING,
            f"{max(samples) / MIB:.0f}" if samples else NOTHING,
            f"{each['growth_bytes'] / MIB:.1f}", f"{each['own_us']:.1f}",
        ])  # fmt: skip
    header = ("command", "forks", "reported", "RSS MiB at first", "at most",
              "last tenth less first", "own CPU us a process")  # fmt: skip
    return Table(header, rows)


def _reports(found: Mapping[str, Any]) -> Table:
    rows = []
    for name in FORMATS:
        cells = [name]
        for each in found.values():
            report = each["formats"][name]
            if "error" in report:
                cells.append(report["error"])
                continue
            peak, size = report["peak_rss_bytes"] / MIB, report["bytes"] / 1e6
            cells.append(f"{report['cpu_s']:.2f} s, {peak:.0f} MiB; {size:.2f} MB")
        rows.append(cells)
    header = ("CPU, peak RSS; size", *(f"{int(count):,} processes" for count in found))
    return Table(header, rows)


def _trace(found: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{int(count):,}", f"{each['trace']['cpu_ns'] / 1000:.1f}",
            f"{each['trace']['bytes']:.0f}", f"{max(each['trace']['resident_bytes']) / MIB:.0f}",
        ]
        for count, each in found.items()
    ]  # fmt: skip
    return Table(("processes", "CPU us a process", "bytes a process", "peak RSS MiB"), rows)


# --- the plot ---------------------------------------------------------------------------


def panels(document: Mapping[str, Any]) -> list[Panel]:
    """Return the plot's panels: own CPU on a logarithmic scale, slowdown from 1."""
    tools = document["parts"].get("tools", {}).get("tools", {})
    own = {key: own_us(tools, key, "fork_wait") for key in tools}
    slow = {key: slowdown(tools, key, "fork_wait", "wall") for key in tools}
    return [
        logarithmic(
            "own CPU, us a process (log scale)",
            [(tools[key]["name"], key, value) for key, value in own.items() if value is not None],
        ),
        linear(
            "fork loop, time (1 = without the tool)",
            [(tools[key]["name"], key, median(values)) for key, values in slow.items() if values],
        ),
    ]


def logarithmic(title: str, values: Sequence[tuple[str, str, float]]) -> Panel:
    """Return a panel from 0.1 to the next power of ten above all values."""
    least = -1
    most = max([1, *(math.ceil(math.log10(value)) for *_, value in values if value > 0)])

    def share(value: float) -> float:
        return min(1.0, max(0.0, (math.log10(max(value, 1e-9)) - least) / (most - least)))

    bars = [Bar(name, key.startswith("zombiebpf"), share(value), _us(value))
            for name, key, value in values]  # fmt: skip
    ticks = [(share(10.0**power), f"{10.0**power:g}") for power in range(least, most + 1)]
    return Panel(title, bars, ticks)


def linear(title: str, values: Sequence[tuple[str, str, float]]) -> Panel:
    """Return a panel from 0 to the next half above all values."""
    most = math.ceil(2 * max([1.0, *(value for *_, value in values)])) / 2
    bars = [Bar(name, key.startswith("zombiebpf"), value / most, f"{value:.2f}")
            for name, key, value in values]  # fmt: skip
    step = 0.5 if most <= 3 else math.ceil(most / 5)
    ticks = [(number * step / most, f"{number * step:g}") for number in range(int(most / step) + 1)]
    return Panel(title, bars, ticks)
