# SPDX-License-Identifier: Apache-2.0
"""The report as one page that works by itself: offline, by double click.

The template and its assets lie in assets/. Scripts and styles are named in the
page's own Content-Security-Policy by their hashes, and nothing else runs.
"""

from __future__ import annotations

from typing import Any, Optional, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from zombiebpf.analysis import Analysis
from zombiebpf.reports.html.embed import data, policy
from zombiebpf.reports.html.lanes import MOST
from zombiebpf.reports.html.payload import Payload
from zombiebpf.reports.html.view import view
from zombiebpf.reports.terminal import Source, TextOptions

SCRIPTS = (
    "data", "words", "scale", "draw", "links", "facts", "timeline", "input", "search", "tables",
    "start",
)  # fmt: skip


def write(analysis: Analysis, out: TextIO, options: TextOptions) -> None:
    """Write the page. It is UTF-8, and says so."""
    write_page(analysis, out, options.source)


def write_page(
    analysis: Analysis, out: TextIO, source: Source, most: int = MOST, about: Optional[str] = None
) -> None:
    """Write the page, with the texts of lines that `source` knows, and at most some
    `most` lanes. `about`: stands on top, above the answer, where that alone would mislead."""
    payload = Payload(analysis, most)
    variables = view(analysis, payload, source, about)
    out.writelines(render("page.html.j2", SCRIPTS, data=data(payload.value), **variables))


def render(template: str, scripts: tuple[str, ...], **variables: Any) -> Any:
    """The pieces of a page of ours."""
    environment = Environment(
        loader=PackageLoader("zombiebpf.reports.html", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )

    def asset(name: str) -> str:
        assert environment.loader is not None
        return environment.loader.get_source(environment, name)[0]

    style = asset("page.css")
    blocks = "\n".join(f"{{\n{asset(each + '.js')}\n}}" for each in scripts)
    script = f'"use strict";\nconst Z = {{}};\n{blocks}\n'
    variables["style"] = Markup(style)  # ours
    variables["script"] = Markup(script)  # ours
    variables["policy"] = policy([style], [script])
    return environment.get_template(template).generate(variables)
