"""The explorer's dependency maps: which are asked for, how they are drawn, what can be taken along."""

from __future__ import annotations

import numpy as np
import pytest

from browsers import (  # noqa: F401 (fixtures)
    PHOTOGRAPH,
    WIDTH,
    canvas_pixels,
    choose,
    chromium_fixture,
    downloaded,
    drag,
    explorer_fixture,
    joint,
    maps_shown,
    on_picture,
    panel,
    running_site_fixture,
    shared_visit_fixture,
    shown_fixture,
    site_fixture,
    status,
    visit_fixture,
)
from drawings import STANDING
from explorer_sites import StandingPerson
from fakes import CONFIG
from model.skeleton import COCO

LEFT_WRIST = COCO.names.index("left_wrist")


def test_a_click_on_a_joint_shows_both_maps(explorer, site):
    choose(explorer, PHOTOGRAPH)
    _, answer = downloaded(explorer, explorer.get_by_role("button", name="Poses as JSON"))
    x, y, _ = answer["poses"][0]["keypoints"][3 * LEFT_WRIST : 3 * LEFT_WRIST + 3]
    explorer.mouse.click(*on_picture(explorer, x + 2, y - 2, WIDTH))
    maps_shown(explorer, "left wrist")
    assert joint(explorer, "left wrist").is_checked()
    assert sorted((one.level, one.keypoint, one.layer, one.head, one.mode) for one in site.maps) == [
        ("encoder", "left_wrist", 3, None, "dependency"),
        ("mhsa", "left_wrist", 2, None, "dependency"),
    ]
    assert all(one.image == PHOTOGRAPH and one.box_xywh is None and not one.as_picture for one in site.maps)


@pytest.mark.parametrize("level", ["mhsa", "encoder"])
def test_the_hottest_pixel_is_where_the_numbers_say_and_the_star_is_at_the_joint(shown, level):
    _, found = downloaded(shown, panel(shown, level).get_by_role("button", name="JSON"))
    attention = np.array(found["attention"])
    row, column = np.unravel_index(attention.argmax(), attention.shape)
    assert (row, column) == StandingPerson.PEAKS[level]
    shown.locator("#opacity").fill("1")
    pixels = canvas_pixels(shown, f"[data-level={level}] .heat")[..., :3].astype(float)
    height, width = pixels.shape[:2]
    x, y, w, h = found["region"]
    star = ((found["point"][0] + 0.5 - x) / w * width, (found["point"][1] + 0.5 - y) / h * height)
    assert tuple(pixels[int(star[1]), int(star[0])]) == (255, 255, 255)
    rows, columns = np.mgrid[:height, :width]
    heat = pixels.sum(axis=2) * (np.hypot(columns - star[0], rows - star[1]) > 40)
    hottest = np.argwhere(heat > heat.max() - 3).mean(axis=0)
    token = height / attention.shape[0]
    assert hottest == pytest.approx(((row + 0.5) * token, (column + 0.5) * token), abs=3)
    assert pixels[int(hottest[0]), int(hottest[1])] == pytest.approx((252, 255, 164), abs=18), "the top of inferno"


def test_what_is_shown_is_the_part_of_the_photograph_that_the_map_covers(shown):
    shown.locator("#opacity").fill("0")
    pixels = canvas_pixels(shown, "[data-level=mhsa] .heat")
    _, found = downloaded(shown, panel(shown, "mhsa").get_by_role("button", name="JSON"))
    x, _, w, _ = found["region"]
    assert x < 0, "the crop has a margin around the picture"
    border = -x / w * pixels.shape[1]
    middle = pixels[pixels.shape[0] // 2]
    assert middle[: int(border) - 2, :3].max() == 0
    assert middle[int(border) + 3 : int(border) + 60, :3].min() > 0


def test_the_largest_value_stands_at_the_colour_bar(shown):
    _, found = downloaded(shown, panel(shown, "encoder").get_by_role("button", name="JSON"))
    largest = f"{100 * np.max(found['attention']):.0f}\u00a0%"
    assert panel(shown, "encoder").locator(".max").inner_text() == largest
    assert f"at most {largest}" in panel(shown, "encoder").locator(".heat").get_attribute("aria-label")
    bar = canvas_pixels(shown, "[data-level=encoder] .bar canvas")[5, :, :3].astype(int)
    assert np.all(np.abs(bar[0] - 120) < 3)
    assert bar[-1] == pytest.approx((252, 255, 164), abs=20)


def test_the_sliders_have_the_ranges_of_the_network_and_ask_for_what_they_say(shown, site):
    for level in ("mhsa", "encoder"):
        layer, head = panel(shown, level).locator(".layer"), panel(shown, level).locator(".head")
        assert int(layer.get_attribute("max")) == CONFIG.attention_layers(level) - 1
        assert int(head.get_attribute("max")) == CONFIG.attention_heads(level) - 1
        assert head.get_attribute("aria-valuetext") == "mean"
    site.maps.clear()
    panel(shown, "mhsa").locator(".layer").fill("0")
    status(shown, "shown")
    shown.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    panel(shown, "encoder").locator(".head").fill("5")
    shown.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    assert [(one.level, one.layer, one.head) for one in site.maps] == [("mhsa", 0, None), ("encoder", 3, 5)]
    _, found = downloaded(shown, panel(shown, "encoder").get_by_role("button", name="JSON"))
    assert (found["layer"], found["head"]) == (3, 5)


def test_a_map_that_was_seen_is_not_asked_for_again(shown, site):
    layer = panel(shown, "mhsa").locator(".layer")
    for value in ("1", "2"):
        layer.fill(value)
        shown.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    assert [one.layer for one in site.maps if one.level == "mhsa"] == [2, 1]


def test_a_slider_that_runs_asks_for_where_it_stops(shown, site):
    site.maps.clear()
    head = panel(shown, "encoder").locator(".head")
    for value in ("0", "1", "2", "3", "7"):
        head.fill(value)
    shown.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    assert site.maps[-1].head == 7
    _, found = downloaded(shown, panel(shown, "encoder").get_by_role("button", name="JSON"))
    assert found["head"] == 7


def test_threshold_and_opacity_draw_without_asking(shown, site):
    site.maps.clear()
    token = (7, 5)  # with little attention
    at = tuple(int((part + 0.5) * 64) for part in token)
    before = canvas_pixels(shown, "[data-level=mhsa] .heat")[at]
    shown.locator("#threshold").fill("0.5")
    without = canvas_pixels(shown, "[data-level=mhsa] .heat")[at]
    assert tuple(without) != tuple(before), "what is below the threshold is not drawn"
    peak = tuple(int((part + 0.5) * 64) for part in StandingPerson.PEAKS["mhsa"])
    bright = canvas_pixels(shown, "[data-level=mhsa] .heat")[peak][:3].astype(int).sum()
    shown.locator("#opacity").fill("0.3")
    assert canvas_pixels(shown, "[data-level=mhsa] .heat")[peak][:3].astype(int).sum() < 0.6 * bright
    assert not site.maps


def test_the_other_direction_is_another_map(shown, site):
    shown.get_by_label("What looked at the joint").check()
    shown.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    assert {one.mode for one in site.maps[2:]} == {"affect"}
    assert "A token gives at most" in panel(shown, "mhsa").locator(".reading").inner_text()


def test_the_maps_are_those_of_the_chosen_box(shown, site):
    drag(shown, on_picture(shown, 100, 60, WIDTH), on_picture(shown, 250, 360, WIDTH))
    shown.wait_for_function("() => /score/.test(document.querySelector('#people').textContent)")
    maps_shown(shown, "left wrist")
    assert [one.box_xywh for one in site.maps[-2:]] == [site.poses[-1].boxes_xywh[0]] * 2
    _, found = downloaded(shown, panel(shown, "mhsa").get_by_role("button", name="JSON"))
    x, _, w, _ = site.poses[-1].boxes_xywh[0]
    assert found["point"][0] == pytest.approx(x + w * STANDING[LEFT_WRIST][0], abs=w / 4)


def test_another_picture_takes_the_maps_of_its_own(shown, site):
    site.estimator.gate.clear()
    shown.locator("#file").set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": PHOTOGRAPH})
    shown.wait_for_function("() => document.querySelector('#drawing').ariaLabel.includes('b.png')")
    assert panel(shown, "mhsa").locator(".heat").is_hidden()
    assert panel(shown, "mhsa").get_by_role("button", name="JSON").is_disabled()
    site.estimator.gate.set()
    maps_shown(shown, "left wrist")
    assert panel(shown, "mhsa").locator(".heat").is_visible()
    assert len(site.maps) == 4


def test_the_keyboard_alone_leads_to_a_map(explorer, site):
    def tab_to(description, limit=40):
        for _ in range(limit):
            explorer.keyboard.press("Tab")
            if explorer.evaluate("selector => document.activeElement.matches(selector)", description):
                return
        raise AssertionError(f"{description} cannot be reached")

    tab_to("#sample")
    explorer.keyboard.press("Enter")
    status(explorer, "joints found")
    tab_to("#joints input")
    explorer.keyboard.press("Space")
    maps_shown(explorer, "nose")
    explorer.keyboard.press("ArrowDown")
    maps_shown(explorer, "left eye")
    tab_to("[data-level=mhsa] .layer")
    explorer.keyboard.press("ArrowLeft")
    explorer.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    assert (site.maps[-1].level, site.maps[-1].layer, site.maps[-1].keypoint) == ("mhsa", 1, "left_eye")
