# SPDX-License-Identifier: Apache-2.0
"""tools/screenshots.py PAGE.html NAME: pictures of a report for docs/screenshots.

NAME-light.png and NAME-dark.png (1200 px wide, the top of the page), NAME-phone.png (390 px).
Chromium comes by: sudo tools/setup.sh chromium chromedriver fonts
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import chromium  # noqa: E402

SHOTS = (("light", 1200, 860, "light"), ("dark", 1200, 860, "dark"), ("phone", 390, 1240, "light"))


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    file, name = Path(sys.argv[1]).resolve(), sys.argv[2]
    programs = [shutil.which(each) for each in (chromium.CHROMIUM, chromium.CHROMEDRIVER)]
    if not all(programs):
        print("screenshots: chromium is missing", file=sys.stderr)
        return 70
    with tempfile.TemporaryDirectory() as profile:
        driver = chromium.start(Path(profile), str(programs[0]), str(programs[1]))
        try:
            page = chromium.Page(driver)
            for suffix, width, height, theme in SHOTS:
                page.shape(width, height, theme)
                page.open(file)
                page.settle()
                target = ROOT / "docs" / "screenshots" / f"{name}-{suffix}.png"
                driver.save_screenshot(str(target))
                print(target.relative_to(ROOT))
        finally:
            driver.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
