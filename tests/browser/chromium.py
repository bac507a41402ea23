# SPDX-License-Identifier: Apache-2.0
"""A page in real Chromium: opened, looked at, handled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, CHROMEDRIVER = "chromium", "chromedriver"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
DEADLINE_S = 60.0

# Nothing of a browser that talks to others by itself.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


def start(profile: Path, chromium: str, chromedriver: str) -> Chrome:
    """A browser of our own, with an empty profile."""
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options=options, service=Service(chromedriver))


class Page:
    """One page at a time."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self.shape()

    def shape(self, width: int = 1600, height: int = 1000, theme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, file: Path) -> Page:
        self.log("browser")
        self.log("performance")
        self.driver.get(file.as_uri())
        self.until(lambda: self.js("return document.readyState") == "complete")
        return self

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what came to a log of the driver since the last call."""
        entries: list[dict[str, Any]] = self.driver.execute("getLog", {"type": kind})["value"]
        return entries

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, true: Callable[[], object], what: str = "it") -> None:
        """Wait for a condition."""
        end = time.monotonic() + DEADLINE_S
        while not true():
            assert time.monotonic() < end, f"{what} did not come"
            time.sleep(0.02)

    def settle(self) -> None:
        """Until what was asked for is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def complaints(self) -> list[str]:
        """What the browser's console says."""
        return [str(entry["message"]) for entry in self.log("browser")]

    def requests(self) -> list[str]:
        """Whatever was fetched, the page's own file too."""
        messages = [json.loads(each["message"])["message"] for each in
                    self.log("performance")]  # fmt: skip
        wanted = [each for each in messages if each["method"] == "Network.requestWillBeSent"]
        return [str(each["params"]["request"]["url"]) for each in wanted]

    def faults(self) -> list[tuple[str, str, list[str]]]:
        """What axe-core finds seriously wrong for those who do not see, or not well."""
        self.js(AXE.read_text(encoding="utf-8"))
        result: dict[str, Any] = self.driver.execute_async_script(
            "axe.run(document).then(arguments[arguments.length - 1])"
        )
        assert len(result["passes"]) > 10, "axe has not looked"
        return [
            (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]])
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ]

    # --- the timeline ---

    def view(self) -> dict[str, Any]:
        result: dict[str, Any] = self.js("return {...Z.view}")
        return result

    def lane_of(self, pid: int) -> int:
        return int(self.js("return Z.d.lives.pid.indexOf(arguments[0])", pid))

    def place(self, lane: int, ns: float) -> tuple[float, float]:
        """Where an instant of a lane lies on the canvas."""
        x, y = self.js("return [Z.x(arguments[1]), Z.middle(arguments[0])]", lane, ns)
        return x, y

    def color(self, x: float, y: float) -> tuple[int, ...]:
        """As painted."""
        return self.colors([(x, y)])[0]

    def colors(self, places: Sequence[tuple[float, float]]) -> list[tuple[int, ...]]:
        """As painted at each place."""
        script = """const c = document.getElementById("canvas");
            const d = window.devicePixelRatio || 1;
            return arguments[0].map(([x, y]) =>
              [...c.getContext("2d").getImageData(x * d, y * d, 1, 1).data].slice(0, 3))"""
        return [tuple(each) for each in self.js(script, list(places))]

    def theme_color(self, name: str) -> tuple[int, ...]:
        """A colour of the page's palette."""
        script = """const s = getComputedStyle(document.documentElement);
            return s.getPropertyValue("--" + arguments[0]).trim()"""
        value = str(self.js(script, name)).lstrip("#")
        return tuple(int(value[place : place + 2], 16) for place in (0, 2, 4))

    def painted(self, color: tuple[int, ...]) -> int:
        """How many pixels of the timeline have this colour."""
        script = """const c = document.getElementById("canvas");
            const p = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            const [r, g, b] = arguments[0];
            let n = 0;
            for (let i = 0; i < p.length; i += 4)
              if (p[i] === r && p[i + 1] === g && p[i + 2] === b) n++;
            return n"""
        return int(self.js(script, list(color)))

    def mouse(self, x: float, y: float) -> ActionChains:
        """Moved to a place on the canvas."""
        canvas = self.find("#canvas")
        self.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
        size = canvas.size
        return ActionChains(self.driver, duration=20).move_to_element_with_offset(
            canvas, round(x - size["width"] / 2), round(y - size["height"] / 2)
        )

    def keys(self, *keys: str) -> None:
        """Typed upon the timeline."""
        self.js("Z.box.focus()")
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()
        self.settle()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """A touch event; points are on the canvas."""
        box = self.js("const r = document.getElementById('canvas').getBoundingClientRect();"
                      "return [r.left, r.top]")  # fmt: skip
        at = [{"x": box[0] + x, "y": box[1] + y, "id": n} for n, (x, y) in enumerate(points)]
        event = {"type": kind, "touchPoints": at}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)
