"""The explorer for everyone: names and roles of what can be used, contrast, small screens, both colour schemes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browsers import (  # noqa: F401 (fixtures)
    PHONE,
    Visit,
    choose,
    choose_joint,
    chromium_fixture,
    explorer_fixture,
    give,
    running_site_fixture,
    shared_visit_fixture,
    site_fixture,
    status,
    visit_fixture,
)
from explorer_sites import site_of
from pictures import encoded, square
from service.__main__ import build_service, read_settings
from service.metrics import Metrics
from service.settings import BUNDLED_CHECKPOINT

PICTURE = encoded(square((300, 400), (150, 200), 40))

# Every control that can be seen and has no name; the name as a browser computes it, roughly.
NAMELESS = """() => [...document.querySelectorAll('a[href], button, input, canvas[role], [role=radiogroup]')]
  .filter((element) => {
    if (!element.checkVisibility()) return false;
    const labels = [...(element.labels ?? [])].map((label) => label.textContent).join('');
    const referred = (element.getAttribute('aria-labelledby') ?? '').split(' ')
      .map((id) => document.getElementById(id)?.textContent ?? '').join('');
    const name = element.getAttribute('aria-label') ?? '';
    const text = element.matches('a, button') ? element.textContent : '';
    return !(labels + referred + name + text).trim();
  }).map((element) => element.outerHTML)"""

# Of every element with text of its own: colours as computed, and those of what it stands on.
CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color[3] === undefined || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')]
    .filter((one) => one.checkVisibility() && !one.disabled && !one.closest('.quiet, canvas, .skip'))
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
    .filter((one) => !getComputedStyle(one).backgroundColor.startsWith('color('))
    .map((one) => {
      const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
      return [one.className + ' ' + one.textContent.trim().slice(0, 30), (a + 0.05) / (b + 0.05)];
    });
}"""


@pytest.fixture(params=["light", "dark"])
def look(request, chromium, site):
    visit = Visit(chromium, site.address, color_scheme=request.param)
    yield request.param, visit.open()
    visit.end()


def test_both_colour_schemes_can_be_read(look):
    scheme, explorer = look
    ground = explorer.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (np.mean([int(v) for v in ground[4:-1].split(",")]) > 128) == (scheme == "light")
    choose(explorer, PICTURE)
    choose_joint(explorer)
    contrasts = explorer.evaluate(CONTRASTS)
    assert len(contrasts) > 50
    assert [one for one in contrasts if one[1] < 4.5] == []


def test_everything_has_a_name_and_the_news_are_announced(explorer):
    assert explorer.evaluate(NAMELESS) == []
    choose(explorer, PICTURE)
    explorer.get_by_role("button", name="Add box").click()
    status(explorer, "joints found")
    choose_joint(explorer)
    assert explorer.evaluate(NAMELESS) == []
    assert explorer.locator("#status").get_attribute("aria-live") == "polite"
    assert explorer.locator("#problem").get_attribute("role") == "alert"
    ids = explorer.evaluate("() => [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert explorer.evaluate("() => document.documentElement.lang") == "en"
    assert explorer.locator("h1").count() == 1
    snapshot = explorer.locator("main").aria_snapshot()
    for line in ('radio "left wrist" [checked]', 'slider "Layer, Transformer encoder"', 'button "Remove box 1"'):
        assert line in snapshot


def test_the_focus_can_be_seen(explorer):
    choose(explorer, PICTURE)
    explorer.locator("#sample").focus()
    for _ in range(12):
        explorer.keyboard.press("Tab")
        outline = explorer.evaluate(
            """() => {
              const at = document.activeElement;
              const shown = at.id === 'file' ? at.nextElementSibling : at;
              return at === document.body ? null : getComputedStyle(shown).outlineStyle;
            }"""
        )
        assert outline in ("solid", None)


def test_a_phone_need_not_scroll_sideways_and_stacks_the_maps(chromium, site):
    visit = Visit(chromium, site.address, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    explorer = visit.open()
    overflow = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert explorer.evaluate(overflow) == 0
    choose(explorer, PICTURE)
    explorer.get_by_role("button", name="Add box").tap()
    status(explorer, "joints found")
    choose_joint(explorer)
    assert explorer.evaluate(overflow) == 0
    assert explorer.evaluate("() => window.innerWidth") == 375, "the layout is not wider than the screen"
    first, second = (one.bounding_box() for one in explorer.locator(".map").all())
    assert first["y"] + first["height"] < second["y"]
    assert first["x"] == second["x"]
    visit.end()


def test_a_desktop_shows_the_maps_side_by_side(explorer):
    choose(explorer, PICTURE)
    choose_joint(explorer)
    first, second = (one.bounding_box() for one in explorer.locator(".map").all())
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    assert explorer.evaluate("() => document.documentElement.scrollWidth") <= 1280


def test_nothing_moves_for_those_who_want_it_still(chromium, site):
    visit = Visit(chromium, site.address, reduced_motion="reduce")
    explorer = visit.open()
    choose(explorer, PICTURE)
    assert explorer.evaluate("() => getComputedStyle(document.querySelector('.heat')).transitionDuration") == "0s"
    visit.end()


def test_no_name_of_the_page_is_global(explorer):
    choose(explorer, PICTURE)
    kinds = explorer.evaluate("() => ['state', 'ask', 'apiKey', 'byId', 'drawMap'].map((name) => typeof window[name])")
    assert kinds == ["undefined"] * 5


def test_addresses_of_blobs_are_given_back(explorer, site):
    explorer.evaluate(
        """() => {
          window.alive = new Set();
          const [make, drop] = [URL.createObjectURL.bind(URL), URL.revokeObjectURL.bind(URL)];
          URL.createObjectURL = (blob) => { const url = make(blob); window.alive.add(url); return url; };
          URL.revokeObjectURL = (url) => { window.alive.delete(url); drop(url); };
        }"""
    )
    choose(explorer, PICTURE)
    explorer.locator("[data-level=mhsa] .figure").click()
    explorer.get_by_role("dialog").wait_for()
    assert explorer.evaluate("() => window.alive.size") == 1
    explorer.get_by_role("button", name="Close").click()
    explorer.wait_for_function("() => window.alive.size === 0")


@pytest.mark.skipif(not Path(BUNDLED_CHECKPOINT).is_file(), reason="the bundled checkpoint is not here")
def test_the_bundled_network_finds_the_drawn_person(chromium):
    service = build_service(read_settings(["--precision", "fp32", "--threads", "1"]), Metrics(), None)
    with site_of(service) as site:
        visit = Visit(chromium, site.address)
        explorer = visit.open()
        explorer.get_by_role("button", name="Try a drawn sample").click()
        status(explorer, "17 joints found")
        visit.end()


def test_it_works_behind_a_path_prefix(visit, site):
    asked = []

    def pass_on(route):
        asked.append(route.request.url.partition("/prefix/")[2])
        route.fulfill(response=route.fetch(url=route.request.url.replace("/prefix/", "/")))

    visit.page.route("**/prefix/**", pass_on)
    visit.page.goto(f"{site.address}prefix/")
    choose(visit.page, PICTURE)
    choose_joint(visit.page)
    assert set(asked) == {"", "model", "pose", "dependency"}
