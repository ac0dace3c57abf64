"""The explorer, from a picture to its skeletons: files, drops, turned pictures, boxes by pointer and by key."""

from __future__ import annotations

import base64
from functools import cache

import numpy as np
import pytest
from PIL import Image

from browsers import (  # noqa: F401 (fixtures)
    Visit,
    canvas_pixels,
    choose,
    choose_joint,
    chromium_fixture,
    downloaded,
    drag,
    explorer_fixture,
    give,
    joint,
    maps_shown,
    on_picture,
    running_site_fixture,
    shared_visit_fixture,
    site_fixture,
    status,
    visit_fixture,
)
from drawings import STANDING, noise_photograph
from model.detection import Detections
from model.skeleton import COCO
from pictures import encoded, square, with_orientation
from service.detecting import DetectorQueue

ORANGE, BLUE, GREEN = (255, 140, 0), (0, 170, 255), (60, 220, 60)
DROP = """([base64, type, kind]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  if (bytes.length) transfer.items.add(new File([bytes], "dropped.png", { type }));
  const names = { drop: "dataTransfer", paste: "clipboardData" };
  const event = new (kind === "drop" ? DragEvent : ClipboardEvent)(kind, { [names[kind]]: transfer, cancelable: true });
  document.dispatchEvent(event);
}"""


@cache
def photograph(width: int = 300, height: int = 400) -> bytes:
    return encoded(Image.fromarray(noise_photograph(height, width)))


def test_a_file_gets_a_skeleton_and_a_table(explorer, site):
    choose(explorer, photograph())
    (asked,) = site.poses
    assert (asked.image, asked.boxes_xywh) == (photograph(), None)
    rows = explorer.locator("#joints tr")
    assert rows.count() == 17
    assert [row.split() for row in rows.all_inner_texts()][:3] == [
        ["nose", "0.10"],
        ["left", "eye", "0.90"],
        ["right", "eye", "0.90"],
    ]
    assert "unsure" in rows.nth(0).get_attribute("class")
    assert "unsure" not in (rows.nth(1).get_attribute("class") or "")
    assert "score 0.89" in explorer.locator("#people").inner_text()
    assert "16 joints found" in explorer.locator("#status").inner_text()
    assert "skeletons: 1" in explorer.locator("#drawing").get_attribute("aria-label")


def test_joints_have_the_colour_of_their_side_and_lie_where_the_answer_says(explorer):
    choose(explorer, photograph())
    _, answer = downloaded(explorer, explorer.get_by_role("button", name="Poses as JSON"))
    keypoints = np.array(answer["poses"][0]["keypoints"]).reshape(17, 3)
    pixels = canvas_pixels(explorer, "#drawing")
    for name, color in (("left_wrist", ORANGE), ("right_hip", BLUE)):
        x, y = (keypoints[COCO.names.index(name), :2] + 0.5) * pixels.shape[1] / 300
        assert tuple(pixels[int(y), int(x)]) == (*color, 255)
    nose = (keypoints[0, :2] + 0.5) * pixels.shape[1] / 300
    assert 0 < pixels[int(nose[1]), int(nose[0]), 3] < 200, "a joint below 0.2 is faint"


def test_the_poses_are_saved_as_they_came(explorer):
    choose(explorer, photograph())
    name, answer = downloaded(explorer, explorer.get_by_role("button", name="Poses as JSON"))
    assert name == "poses.json"
    assert answer["image"] == {"width": 300, "height": 400}
    (pose,) = answer["poses"]
    assert (pose["category_id"], pose["bbox"], len(pose["keypoints"])) == (1, [0, 0, 300, 400], 51)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted(explorer, site, kind):
    explorer.evaluate(DROP, [base64.b64encode(photograph()).decode(), "image/png", kind])
    status(explorer, "joints found")
    assert site.poses[0].image == photograph()


def test_dropping_something_else_says_so(explorer, site):
    explorer.evaluate(DROP, ["", "", "drop"])
    assert explorer.locator("#problem-text").inner_text() == "That was no file. Drop a JPEG, PNG or WebP picture."
    explorer.get_by_role("button", name="Dismiss").click()
    assert explorer.locator("#problem").is_hidden()
    assert not site.poses


def test_the_drawn_sample_is_a_picture_like_any_other(explorer, site):
    explorer.get_by_role("button", name="Try a drawn sample").click()
    status(explorer, "joints found")
    assert site.poses[0].image[:3] == b"\xff\xd8\xff"
    with explorer.expect_download() as waiting:
        explorer.get_by_role("button", name="Save picture").click()
    assert waiting.value.suggested_filename == "sample.jpg"
    assert waiting.value.path().read_bytes() == site.poses[0].image


@pytest.mark.parametrize("size", [(300, 400), (900, 600)], ids=["enlarged", "reduced"])
def test_a_dragged_box_is_asked_for_in_pixels_of_the_picture(explorer, site, size):
    choose(explorer, photograph(*size))
    width, height = size
    wanted = (width // 5, height // 4, width // 2, height // 3)
    x, y, w, h = wanted
    # From the bottom right to the top left: the order of the corners is the person's own.
    drag(explorer, on_picture(explorer, x + w, y + h, width), on_picture(explorer, x, y, width))
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")
    (box,) = site.poses[-1].boxes_xywh
    assert len(site.poses) == 2
    scale = width / explorer.locator("#drawing").bounding_box()["width"]
    assert box == pytest.approx(wanted, abs=max(1.0, 2 * scale))
    shown = explorer.locator("#people button").first.inner_text()
    assert shown.startswith(f"1: {box[2]:.0f} × {box[3]:.0f} at {box[0]:.0f}, {box[1]:.0f}")


def test_a_box_may_leave_the_picture_and_is_cut_there(explorer, site):
    choose(explorer, photograph())
    drag(explorer, on_picture(explorer, 150, 200, 300), on_picture(explorer, -100, 900, 300))
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")
    (box,) = site.poses[-1].boxes_xywh
    assert box == pytest.approx((0, 200, 150, 200), abs=2)


def test_two_boxes_are_two_people_and_a_click_chooses_one(explorer, site):
    choose(explorer, photograph())
    drag(explorer, on_picture(explorer, 20, 40, 300), on_picture(explorer, 120, 240, 300))
    drag(explorer, on_picture(explorer, 160, 40, 300), on_picture(explorer, 280, 300, 300))
    explorer.wait_for_function("() => document.querySelectorAll('#people li').length === 2")
    status(explorer, "of 2 people found")
    assert len(site.poses[-1].boxes_xywh) == 2
    first, second = explorer.locator("#people .person").all()
    assert second.get_attribute("aria-pressed") == "true"
    explorer.mouse.click(*on_picture(explorer, 70, 235, 300))
    assert first.get_attribute("aria-pressed") == "true"
    assert second.get_attribute("aria-pressed") == "false"


def test_a_corner_resizes_and_an_edge_moves_the_chosen_box(explorer, site):
    choose(explorer, photograph())
    drag(explorer, on_picture(explorer, 50, 50, 300), on_picture(explorer, 150, 250, 300))
    status(explorer, "joints found")
    drag(explorer, on_picture(explorer, 150, 250, 300), on_picture(explorer, 200, 300, 300))
    explorer.wait_for_function("() => /150 × 250.*score/.test(document.querySelector('#people').textContent)")
    drag(explorer, on_picture(explorer, 50, 170, 300), on_picture(explorer, 80, 190, 300))
    explorer.wait_for_function("() => /150 × 250 at 80, 70.*score/.test(document.querySelector('#people').textContent)")
    assert site.poses[-1].boxes_xywh == [(80.0, 70.0, 150.0, 250.0)]


def last_asked(explorer, site, boxes) -> None:
    """Wait until the page has asked about these boxes; it may have asked about others on the way."""
    for _ in range(1500):
        if site.poses and site.poses[-1].boxes_xywh == boxes:
            return
        explorer.wait_for_timeout(20)
    pytest.fail(f"the last question was about {site.poses[-1].boxes_xywh}, not {boxes}")


def test_boxes_by_keyboard(explorer, site):
    choose(explorer, photograph())
    explorer.get_by_role("button", name="Add box").focus()
    explorer.keyboard.press("Enter")
    person = explorer.locator("#people .person")
    assert person.evaluate("element => element === document.activeElement")
    assert "1: 150 × 300 at 75, 50" in person.inner_text()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Alt+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowDown"):
        explorer.keyboard.press(key)
    assert "1: 146 × 304 at 82, 46" in person.inner_text()
    last_asked(explorer, site, [(82.0, 46.0, 146.0, 304.0)])
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")
    explorer.keyboard.press("Delete")
    assert explorer.locator("#people").inner_text().startswith("Whole picture")
    assert person.evaluate("element => element === document.activeElement"), "the focus is not lost"
    last_asked(explorer, site, None)
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")


def test_what_is_asked_about_a_box_is_given_up_when_the_box_moves(explorer, site):
    choose(explorer, photograph())
    explorer.get_by_role("button", name="Add box").press("Enter")
    last_asked(explorer, site, [(75.0, 50.0, 150.0, 300.0)])
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")
    site.estimator.gate.clear()
    explorer.keyboard.press("ArrowRight")
    last_asked(explorer, site, [(79.0, 50.0, 150.0, 300.0)])
    # From here on nothing is asked: no time passes after a key.
    explorer.evaluate("() => { held = []; passes = setTimeout; setTimeout = (then) => held.push(then); }")
    with explorer.expect_event("requestfailed", lambda request: request.url.endswith("/pose")):
        explorer.keyboard.press("ArrowRight")
    site.estimator.gate.set()
    assert "score" not in explorer.locator("#people").inner_text()
    explorer.evaluate("() => { setTimeout = passes; held.forEach((then) => then()); }")
    last_asked(explorer, site, [(83.0, 50.0, 150.0, 300.0)])
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_a_turned_picture_is_shown_and_asked_about_upright(explorer, site, orientation):
    give(explorer, with_orientation(orientation), "turned.jpg", "image/jpeg")
    status(explorer, "joints found")
    assert "60 by 80 pixels" in explorer.locator("#drawing").get_attribute("aria-label")
    brightness = canvas_pixels(explorer, "#photo")[..., :3].sum(axis=2)
    row, column = (int(v) for v in np.argwhere(brightness > 0.9 * brightness.max()).mean(axis=0))
    scale = brightness.shape[1] / 60
    assert (column / scale, row / scale) == pytest.approx((40.5, 20.5), abs=1)
    drag(explorer, on_picture(explorer, 30, 10, 60), on_picture(explorer, 50, 30, 60))
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")
    (box,) = site.poses[-1].boxes_xywh
    assert box == pytest.approx((30, 10, 20, 20), abs=1)
    assert explorer.locator("#problem").is_hidden()


def test_the_answer_for_an_older_picture_is_not_drawn(explorer, site):
    site.estimator.gate.clear()
    give(explorer, photograph(300, 400), "first.png")
    explorer.wait_for_function("() => document.querySelector('#drawing').ariaLabel.includes('first.png')")
    give(explorer, photograph(200, 220), "second.png")
    explorer.wait_for_function("() => document.querySelector('#drawing').ariaLabel.includes('second.png')")
    assert "–" in explorer.locator("#joints tr").first.inner_text()
    site.estimator.gate.set()
    status(explorer, "joints found")
    _, answer = downloaded(explorer, explorer.get_by_role("button", name="Poses as JSON"))
    assert answer["image"] == {"width": 200, "height": 220}
    assert explorer.locator("#problem").is_hidden()


def test_on_a_touch_screen_a_finger_scrolls_until_it_is_told_to_draw(chromium, site):
    visit = Visit(chromium, site.address, viewport={"width": 375, "height": 667}, has_touch=True, is_mobile=True)
    explorer = visit.open()
    choose(explorer, photograph())
    touch_action = "() => getComputedStyle(document.getElementById('drawing')).touchAction"
    assert explorer.evaluate(touch_action) == "manipulation"
    explorer.get_by_role("button", name="Draw with a finger").tap()
    assert explorer.evaluate(touch_action) == "none"
    for kind, point in (("pointerdown", (50, 60)), ("pointermove", (200, 300)), ("pointerup", (200, 300))):
        x, y = on_picture(explorer, *point, 300)
        init = {"clientX": x, "clientY": y, "pointerId": 1, "pointerType": "touch", "button": 0}
        explorer.evaluate("() => { Element.prototype.setPointerCapture = () => {}; }")  # of a pointer that is made up
        explorer.locator("#drawing").dispatch_event(kind, init)
    explorer.wait_for_function("() => document.querySelector('#people').textContent.includes('score')")
    (box,) = site.poses[-1].boxes_xywh
    assert box == pytest.approx((50, 60, 150, 240), abs=2)
    assert explorer.evaluate(touch_action) == "manipulation", "one box, then a finger scrolls again"
    x, y = on_picture(explorer, *(np.array(box[:2]) + STANDING[9] * np.array(box[2:])), 300)
    explorer.touchscreen.tap(x, y)
    assert joint(explorer, "left wrist").is_checked()
    visit.end()


def test_a_small_picture_is_enlarged_and_nothing_else(explorer):
    choose(explorer, encoded(square()))
    bounds = explorer.locator("#drawing").bounding_box()
    assert bounds["width"] / bounds["height"] == pytest.approx(60 / 80, abs=0.01)


class TwoPeople:
    """Finds people in the left and in the right half of every picture, as long as it is to find any."""

    name = "two"

    def __init__(self) -> None:
        self.boxes = [[10.5, 20.25, 120.0, 360.0], [160.0, 20.0, 120.0, 360.0]]

    def detect(self, images):
        boxes = np.array(self.boxes, dtype=float).reshape(-1, 4)
        return [Detections(boxes, np.linspace(0.9, 0.8, len(boxes)))] * len(images)


@pytest.fixture(name="two_people")
def two_people_fixture(site):
    detector = TwoPeople()
    site.service.detector = DetectorQueue(detector, max_batch=1)
    yield detector
    site.service.detector.close()
    site.service.detector = None


def test_the_people_that_the_detector_finds_are_listed_and_can_be_asked_about(two_people, explorer, site):
    choose(explorer, photograph())
    status(explorer, "32 joints of 2 people found. Choose one to see what it depends on.")
    people = explorer.locator("#people button.person")
    assert people.all_inner_texts() == ["1: 120 × 360 at 11, 20 · score 0.89", "2: 120 × 360 at 160, 20 · score 0.89"]
    people.nth(1).click()
    choose_joint(explorer)
    maps_shown(explorer, "left wrist")
    assert {asked.box_xywh for asked in site.maps} == {(160.0, 20.0, 120.0, 360.0)}
    two_people.boxes = []
    choose(explorer, photograph(310))
    status(explorer, "The detector found nobody. Drag on the picture, or add a box, to say where somebody is.")
    assert people.all_inner_texts() == ["Whole picture"]
