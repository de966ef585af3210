"""Takes the picture of the page that README shows: the page's own example, repainted, in Debian's Chromium.

python -m benchmarks.screenshot --out assets/figures [--seed 1]
"""

import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks import common
from benchmarks.page import page

SIZE = {"width": 1280, "height": 820}


def main() -> None:
    options = common.parser(__doc__, "--out --seed", out=Path("assets/figures"), seed=1).parse_args()
    path = common.folder(options.out) / "page.webp"
    with page([]) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
        tab.goto(address)
        repaint(tab, options.seed)
        Image.open(BytesIO(tab.screenshot())).save(path, quality=90, method=6)
        browser.close()
    print(path)


def repaint(tab: Page, seed: int) -> None:
    """Fill the example, and show it half before and half after."""
    tab.click("#example")
    tab.fill("#repaint-n", "4")
    tab.fill("#repaint-seed", str(seed))
    tab.click("#repaint-form .go")
    tab.wait_for_selector("#fills:not([hidden])", timeout=300_000)
    tab.wait_for_load_state("networkidle")


if __name__ == "__main__":
    main()
