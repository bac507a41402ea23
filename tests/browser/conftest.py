# SPDX-License-Identifier: Apache-2.0
"""A browser for all tests, and the pages they open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from tests.browser import chromium, sample_pages
from tests.unit.hostile_analysis import hostile as hostile_analysis
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.stack import Frame
from zombiebpf.reports.html import write_page
from zombiebpf.trace import observe

Write = Callable[[str, Analysis], Path]


def source(frame: Frame) -> str:
    return "p.start()" if frame.line == 42 else f"line {frame.line} of {frame.file}"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    programs = [shutil.which(name) for name in (chromium.CHROMIUM, chromium.CHROMEDRIVER)]
    assert all(programs), "chromium or its driver is missing: sudo make test installs them"
    profile = tmp_path_factory.mktemp("profile")
    browser = chromium.start(profile, str(programs[0]), str(programs[1]))
    browser.set_script_timeout(chromium.DEADLINE_S)
    yield browser
    browser.quit()


@pytest.fixture
def page(driver: Chrome) -> Iterator[chromium.Page]:
    yield chromium.Page(driver)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Each page is made once."""
    directory = tmp_path_factory.mktemp("pages")

    def write(name: str, observed: Analysis) -> Path:
        file = directory / f"{name}.html"
        if not file.exists():
            with open(file, "w", encoding="utf-8") as out, observe(observed) as observation:
                write_page(observation, out, source)
        return file

    return write


@pytest.fixture(scope="session")
def unjoined(written: Write) -> Path:
    return written("unjoined", sample_pages.unjoined())


@pytest.fixture(scope="session")
def everything(written: Write) -> Path:
    return written("everything", sample_pages.everything())


@pytest.fixture(scope="session")
def hostile(written: Write) -> Path:
    return written("hostile", hostile_analysis())


@pytest.fixture(scope="session")
def far(written: Write) -> Path:
    return written("far", sample_pages.far())


@pytest.fixture(scope="session")
def before(written: Write) -> Path:
    return written("before", sample_pages.before())


@pytest.fixture(scope="session")
def many(written: Write) -> Path:
    return written("many", sample_pages.many(10_000))
