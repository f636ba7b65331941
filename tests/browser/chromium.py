"""Headless Chromium as a reader's eye: the page's final DOM, and what was painted."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass(frozen=True)
class Opened:
    """One page as the browser showed it. screenshot: [height, width, RGB] uint8."""

    url: str
    html: str
    screenshot: NDArray[np.uint8]

    @property
    def page(self) -> Page:
        return Page(self.html)

    def links(self) -> set[str]:
        return {urljoin(self.url, href) for href in self.page.values("a", "href")}

    def painted(self, colour: tuple[int, int, int]) -> int:
        """How many pixels have exactly this colour."""
        return int((self.screenshot == np.array(colour, np.uint8)).all(axis=-1).sum())


class Page(HTMLParser):
    """Elements with their attributes, and the text of every element of one kind."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text.setdefault(tag, []).append("")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.text[tag][-1] += data

    def values(self, tag: str, name: str) -> list[str]:
        return [attrs.get(name) or "" for kind, attrs in self.elements if kind == tag]

    def texts(self, tag: str) -> list[str]:
        return [" ".join(text.split()) for text in self.text.get(tag, [])]

    @property
    def ids(self) -> set[str | None]:
        return {attrs.get("id") for _, attrs in self.elements}


def open_page(url: str, folder: Path, width: int = 1280, height: int = 3600) -> Opened:
    """Open `url` in a fresh profile below `folder`; keeps the picture there as page.png."""
    assert PROGRAM is not None
    picture = folder / "page.png"
    command = [
        *(PROGRAM, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *(f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"),
        *("--force-device-scale-factor=1", "--force-color-profile=srgb"),
        *(f"--screenshot={picture}", "--dump-dom"),
        *(("--no-sandbox",) if os.geteuid() == 0 else ()),
        url,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        return Opened(url, done.stdout, np.asarray(image.convert("RGB")))
