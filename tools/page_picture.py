"""A picture of the page of ``liif-fast view``, in a real Chromium.

    python tools/page_picture.py PHOTO.png TRUTH.png OUT.png --at 0.6,0.4 --turns 7

docs/page.md's is a part of a photo of BuddiesOfBudgie/budgie-backgrounds (CC0), reduced to a half by Pillow's bicubic.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs=3, type=Path, metavar="FILE", help="photo, its truth, and the picture to write")
    parser.add_argument("--at", default="0.5,0.5", metavar="X,Y", help="where the pointer is, as shares of the canvas")
    parser.add_argument("--turns", type=int, default=6, help="of the wheel (%(default)s)")
    args = parser.parse_args()
    photo, truth, picture = args.files
    command = [sys.executable, "-m", "liif_fast", "view", str(photo), "--truth", str(truth), "--no-browser"]
    path = os.environ.get("LIIF_FAST_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            page = browser.new_page(viewport={"width": 1180, "height": 760}, color_scheme="dark", bypass_csp=True)
            page.goto(server.stdout.readline().strip())
            page.evaluate("liifView.settled()")
            box = page.locator("#canvas").bounding_box()
            assert box is not None
            x, y = (start + float(share) * length for start, share, length in zip(
                (box["x"], box["y"]), args.at.split(","), (box["width"], box["height"]), strict=True))  # fmt: skip
            page.mouse.move(x, y)
            for _ in range(args.turns):
                page.mouse.wheel(0, -120)
            page.wait_for_function("document.querySelector('#psnr').textContent.match(/[0-9].*[0-9] dB/)")
            page.evaluate("liifView.settled()")
            page.screenshot(path=picture)
            browser.close()
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
