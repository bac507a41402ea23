# SPDX-License-Identifier: Apache-2.0
"""A browser for all tests, and the pages they open."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))  # lives.py

import driving
import pages
from hostile import hostile as hostile_analysis

from zombiebpf.analysis import Analysis
from zombiebpf.reports.html import write_page
from zombiebpf.stack import Frame

Write = Callable[[str, Analysis], Path]


def source(frame: Frame) -> str:
    return "p.start()" if frame.line == 42 else f"line {frame.line} of {frame.file}"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    programs = [shutil.which(name) for name in (driving.CHROMIUM, driving.CHROMEDRIVER)]
    assert all(programs), "chromium or its driver is missing: sudo make test installs them"
    profile = tmp_path_factory.mktemp("profile")
    browser = driving.start(profile, str(programs[0]), str(programs[1]))
    browser.set_script_timeout(driving.DEADLINE_S)
    yield browser
    browser.quit()


@pytest.fixture
def page(driver: Chrome) -> Iterator[driving.Page]:
    yield driving.Page(driver)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Each page is made once."""
    directory = tmp_path_factory.mktemp("pages")

    def write(name: str, observed: Analysis) -> Path:
        file = directory / f"{name}.html"
        if not file.exists():
            with open(file, "w", encoding="utf-8") as out:
                write_page(observed, out, source)
        return file

    return write


@pytest.fixture(scope="session")
def unjoined(written: Write) -> Path:
    return written("unjoined", pages.unjoined())


@pytest.fixture(scope="session")
def everything(written: Write) -> Path:
    return written("everything", pages.everything())


@pytest.fixture(scope="session")
def hostile(written: Write) -> Path:
    return written("hostile", hostile_analysis())


@pytest.fixture(scope="session")
def far(written: Write) -> Path:
    return written("far", pages.far())


@pytest.fixture(scope="session")
def before(written: Write) -> Path:
    return written("before", pages.before())


@pytest.fixture(scope="session")
def many(written: Write) -> Path:
    return written("many", pages.many(10_000))
