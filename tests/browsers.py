"""The explorer as a person meets it, in headless Chromium: fixtures, and what a person does.

A module of tests imports all fixtures, for they use each other.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from drawings import noise_photograph
from explorer_sites import Site, StandingPerson, site_of
from fakes import make_service
from model.crop import Pixels
from pictures import encoded

PATIENCE_MS = 10_000  # for what must happen; reached only by a test that fails
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 667}
WIDTH, HEIGHT = 300, 400
PHOTOGRAPH = encoded(Image.fromarray(noise_photograph(HEIGHT, WIDTH) // 4))  # dark, so that heat stands out
NEEDED = "BTRANSPOSE_NEED_BROWSER"  # 1: a missing browser is a failure
LOAD_FAILED = "Failed to load resource"  # what Chromium logs of every answer of 400 and more


@pytest.fixture(name="running_site", scope="module")
def running_site_fixture() -> Iterator[Site]:
    estimator = StandingPerson()
    with site_of(make_service(estimator), estimator) as one:
        yield one


@pytest.fixture(name="site")
def site_fixture(running_site: Site) -> Iterator[Site]:
    """A site that was asked nothing yet."""
    running_site.poses.clear()
    running_site.maps.clear()
    yield running_site
    running_site.estimator.gate.set()
    running_site.estimator.fails_with = None


@pytest.fixture(
    name="chromium", scope="module"
)  # no longer: while Playwright runs, no test can have an event loop of its own
def chromium_fixture() -> Iterator[Any]:
    """A browser; the test is skipped, or fails where one is needed, if there is none."""
    absent = pytest.fail if os.environ.get(NEEDED) == "1" else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    executable = next(filter(None, found), None)
    if executable is None:
        absent("there is no Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """One page in a context of its own, and what it complained of."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESKTOP, "accept_downloads": True, **context})
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.origins: set[str] = set()
        self.page.on("console", lambda message: self._note(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._came_from(request.url))
        self.address = address

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(LOAD_FAILED):
            self.complaints.append(message.text)

    def _came_from(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("blob", "data"):
            self.origins.add(f"{parts.scheme}://{parts.netloc}/")

    def open(self) -> Any:
        self.page.goto(self.address)
        return self.page

    def check(self) -> None:
        """Fail for what the browser did not like or whom the page spoke to."""
        assert self.complaints == []
        assert self.origins <= {self.address}

    def end(self) -> None:
        self.context.close()
        self.check()


@pytest.fixture(name="shared_visit", scope="module")  # a context of its own for each test would take most of the time
def shared_visit_fixture(chromium: Any, running_site: Site) -> Iterator[Visit]:
    one = Visit(chromium, running_site.address)
    yield one
    one.context.close()


@pytest.fixture(name="visit")
def visit_fixture(shared_visit: Visit, site: Site) -> Iterator[Visit]:
    """A page for a desktop that has forgotten the test before; to be opened."""
    shared_visit.complaints.clear()
    yield shared_visit
    shared_visit.page.unroute_all()
    shared_visit.check()


@pytest.fixture(name="explorer")
def explorer_fixture(visit: Visit) -> Any:
    """The explorer, open."""
    return visit.open()


@pytest.fixture(name="shown")
def shown_fixture(explorer: Any) -> Any:
    """The explorer with both maps of the left wrist in `PHOTOGRAPH`."""
    choose(explorer, PHOTOGRAPH)
    choose_joint(explorer)
    return explorer


def choose(page: Any, content: bytes, name: str = "photo.png", mime: str = "image/png") -> None:
    """Choose a file, and wait for its poses."""
    give(page, content, name, mime)
    status(page, "found")


def give(page: Any, content: bytes, name: str = "photo.png", mime: str = "image/png") -> None:
    page.locator("#file").set_input_files({"name": name, "mimeType": mime, "buffer": content})


def status(page: Any, text: str) -> None:
    """Wait until the status line says so."""
    page.wait_for_function("text => document.getElementById('status').textContent.includes(text)", arg=text)


def joint(page: Any, name: str) -> Any:
    return page.get_by_role("radio", name=name, exact=True)


def panel(page: Any, level: str) -> Any:
    return page.locator(f".panel[data-level={level}]")


def choose_joint(page: Any, name: str = "left wrist") -> None:
    """Choose one by its radio button, and wait for both maps."""
    joint(page, name).check()
    maps_shown(page, name)


def maps_shown(page: Any, name: str) -> None:
    status(page, f"Maps of the {name}")
    assert page.locator(".panel[aria-busy=true]").count() == 0


def on_picture(page: Any, x: float, y: float, width: int) -> tuple[float, float]:
    """Edge coordinates of a picture of that width -> where they are on the screen."""
    page.locator("#drawing").scroll_into_view_if_needed()
    bounds = page.locator("#drawing").bounding_box()
    scale = bounds["width"] / width
    return bounds["x"] + x * scale, bounds["y"] + y * scale


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def canvas_pixels(page: Any, selector: str) -> Pixels:
    """[H, W, 4] RGBA of a canvas."""
    url = page.evaluate("selector => document.querySelector(selector).toDataURL()", selector)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))


def downloaded(page: Any, button: Any) -> tuple[str, Any]:
    """Name and JSON of what a button saves."""
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, json.loads(waiting.value.path().read_text())


def problem_json(status_code: int, detail: str, **headers: str) -> dict[str, Any]:
    """What `route.fulfill` takes for an error of the service."""
    body = {"type": "about:blank", "title": "x", "status": status_code, "detail": detail}
    return {
        "status": status_code,
        "headers": {"content-type": "application/problem+json", **headers},
        "body": json.dumps(body),
    }


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n")
