# SPDX-License-Identifier: Apache-2.0
"""The HTML report: one self-contained page that works offline.

The template, scripts and styles are in assets/. The page's Content-Security-Policy allows
these scripts and styles by their hashes, and nothing else.
"""

from __future__ import annotations

from typing import Any, Optional, TextIO

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from zombiebpf.model.observation import Observation
from zombiebpf.reports.html.embed import content_security_policy, json_for_script
from zombiebpf.reports.html.page_data import MAX_LANES, PageData
from zombiebpf.reports.html.variables import template_variables
from zombiebpf.reports.terminal import SourceReader, TextOptions

SCRIPTS = (
    "data", "words", "scale", "draw", "links", "facts", "timeline", "input", "search", "tables",
    "start",
)  # fmt: skip


def write(observation: Observation, out: TextIO, options: TextOptions) -> None:
    """Write the page; `out` must encode to UTF-8, which the page declares."""
    write_page(observation, out, options.source)


def write_page(
    observation: Observation,
    out: TextIO,
    source: SourceReader,
    most: int = MAX_LANES,
    about: Optional[str] = None,
) -> None:
    """Write the page with source text from `source`, and a lane for each of `most` processes.

    If there are more, about half of `most` lanes are for one process, the others for several.

    `about` is a title above the answer, where the answer alone would mislead.
    """
    page_data = PageData(observation, most)
    variables = template_variables(observation, page_data, source, about)
    data = json_for_script(page_data.value)
    out.writelines(render("page.html.j2", SCRIPTS, data=data, **variables))


def render(template: str, scripts: tuple[str, ...], **variables: Any) -> Any:
    """Return the pieces of a page: a template of assets/ with its scripts and page.css."""
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
    variables["style"] = Markup(style)  # from assets/, so nothing to escape
    variables["script"] = Markup(script)
    variables["policy"] = content_security_policy([style], [script])
    return environment.get_template(template).generate(variables)
