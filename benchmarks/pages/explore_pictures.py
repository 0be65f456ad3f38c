"""Draw the pictures of docs/explore.md, the views of `retrieval explore` on a run, and of its report, in Chromium.

.venv/bin/python -m benchmarks.pages.explore_pictures runs/movielens-100k
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.harness import ROOT
from retrieval.explore.serve import listen

VIEWS = {
    "user": ("light", "/user?user=239&time=1998-03-06T10:23:28&any.genres=Comedy&click=50"),
    "item": ("dark", "/item?item=50"),
    "map": ("light", "/map"),
    "quality": ("light", "/quality"),
}
"""By name: light or dark, and the address."""
WIDTH, HEIGHT, COLOURS = 1280, 860, 128


def main() -> None:
    """Open every view and write docs/explore-NAME.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="of MovieLens-100K")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    listening = listen(options.runs)
    threading.Thread(target=listening.run, daemon=True).start()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(listening.address)
        for name, (scheme, address) in VIEWS.items():
            draw(page, listening.address.split("/?")[0] + address, scheme, options.out / f"explore-{name}.png")
        draw(page, (options.runs[0] / "report.html").resolve().as_uri(), "light", options.out / "report.png")
        browser.close()


def draw(page: Any, address: str, scheme: str, path: Path) -> None:
    """Write a picture of a page once nothing of it is being computed."""
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.locator("[data-retry], [aria-busy=true]").first.wait_for(state="detached")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size / 1024:.0f} kB\n")


if __name__ == "__main__":
    main()
