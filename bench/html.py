# SPDX-License-Identifier: Apache-2.0
"""python -m bench.html: the HTML report of 10,000 and of 100,000 lives, in real Chromium.

File size, time to write it, to load it, to its first drawing, and frames per second
while it is panned and scrolled; headless, without a graphics card. Prints a table.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.browser import chromium, sample_pages
from zombiebpf.reports.html import write_page
from zombiebpf.trace import observe

SECONDS = 3
# What moves a little in each frame: time, the lanes, both with all lanes in view.
MOTIONS = {
    "whole, panned": "Z.pan(way * 0.002)",
    "near, panned": "Z.pan(way * 0.01)",
    "lanes scrolled": "Z.box.scrollTop += way * 40",
    "all lanes, panned": "Z.pan(way * 0.01)",
}
BEFORE = {
    "whole, panned": "Z.show(...Z.whole()); Z.zoom(0.5, Z.last / 2)",
    "near, panned": "Z.show(Z.last * 0.5, Z.last * 0.501)",
    "lanes scrolled": "Z.show(...Z.whole())",
    "all lanes, panned": "for (let n = 0; n < 60; n++) Z.stretch(0.7); Z.zoom(0.5, Z.last / 2)",
}

MEASURE = """
const done = arguments[arguments.length - 1];
const began = performance.now();
let frames = 0, way = 1;
Z.stats.longest = 0;
(function frame() {
  frames++;
  if (frames % 60 === 0) way = -way;
  MOTION;
  const now = performance.now();
  if (now - began < SECONDS * 1000) requestAnimationFrame(frame);
  else done([frames / (now - began) * 1000, Z.stats.longest]);
})();
"""


def main() -> int:
    programs = [shutil.which(name) for name in (chromium.CHROMIUM, chromium.CHROMEDRIVER)]
    if not all(programs):
        print("bench.html: chromium is missing: sudo tools/setup.sh chromium chromedriver fonts",
              file=sys.stderr)  # fmt: skip
        return 70
    with tempfile.TemporaryDirectory(prefix="zombiebpf-bench-") as name:
        directory = Path(name)
        driver = chromium.start(directory / "profile", str(programs[0]), str(programs[1]))
        try:
            driver.set_script_timeout(120)
            page = chromium.Page(driver)
            for count in (10_000, 100_000):
                for what, value in measure(page, directory, count):
                    print(f"{count:,}\t{what}\t{value}", flush=True)
        finally:
            driver.quit()
    return 0


def measure(page: chromium.Page, directory: Path, count: int) -> list[tuple[str, str]]:
    observed = sample_pages.many(count)
    file = directory / f"{count}.html"
    began = time.monotonic()
    with open(file, "w", encoding="utf-8") as out, observe(observed) as observation:
        write_page(observation, out, lambda frame: None)
    found = [("written in", f"{time.monotonic() - began:.1f} s")]
    found.append(("size", f"{file.stat().st_size / 1e6:.2f} MB"))
    page.open(file)
    found.append(("first drawing after", f"{page.js('return Z.stats.first'):.0f} ms"))
    for name, motion in MOTIONS.items():
        page.js(BEFORE[name])
        page.settle()
        script = MEASURE.replace("MOTION", motion).replace("SECONDS", str(SECONDS))
        rate, longest = result(page, script)
        found.append((name, f"{rate:.0f} frames/s, longest drawing {longest:.0f} ms"))
    return found


def result(page: chromium.Page, script: str) -> tuple[float, float]:
    rate, longest = page.driver.execute_async_script(script)
    return rate, longest


if __name__ == "__main__":
    sys.exit(main())
