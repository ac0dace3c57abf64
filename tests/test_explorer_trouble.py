"""The explorer when something goes wrong: it says what, loses nothing, and goes on when it can."""

from __future__ import annotations

import pytest

from browsers import (  # noqa: F401 (fixtures)
    Visit,
    choose,
    chromium_fixture,
    explorer_fixture,
    give,
    joint,
    problem_json,
    running_site_fixture,
    shared_visit_fixture,
    site_fixture,
    status,
    visit_fixture,
)
from explorer_sites import site_of
from fakes import make_admission, make_service
from pictures import encoded, jpeg, square
from service.api_keys import ApiKeys

PICTURE = encoded(square())
KEY = "a-key-that-is-long-enough"
BUSY = {"Retry-After": "0.01"}


def problem(page):
    page.locator("#problem").wait_for()
    return page.locator("#problem-text").inner_text()


def answering(page, path, *answers):
    """Answer the first questions to a path so, and let the others through; the list of those left."""
    left = list(answers)

    def handle(route):
        if left:
            route.fulfill(**left.pop(0))
        else:
            route.continue_()

    page.route(f"**/{path}", handle)
    return left


def test_a_file_that_is_no_picture_leaves_the_one_before(explorer, site):
    choose(explorer, PICTURE, "good.png")
    give(explorer, b"no picture", "notes.png")
    assert problem(explorer).startswith("notes.png is not a picture that this browser can show.")
    assert "good.png" in explorer.locator("#drawing").get_attribute("aria-label")
    assert explorer.get_by_role("button", name="Try again").is_hidden(), "the file would be the same"
    choose(explorer, PICTURE, "another.png")
    assert explorer.locator("#problem").is_hidden()
    assert len(site.poses) == 2


def test_a_picture_that_only_the_browser_can_show_is_explained_by_the_service(explorer):
    give(explorer, encoded(square(), "BMP"), "old.bmp", "image/bmp")
    assert "JPEG" in problem(explorer)
    assert "old.bmp" in explorer.locator("#drawing").get_attribute("aria-label")


def test_a_picture_that_is_cut_off_is_explained_by_the_service(explorer, site):
    whole = jpeg(square((400, 400), (200, 200), 50))
    give(explorer, whole[: len(whole) - 300], "cut.jpg", "image/jpeg")
    assert problem(explorer)
    choose(explorer, whole, "whole.jpg", "image/jpeg")
    assert explorer.locator("#problem").is_hidden()


def test_a_busy_service_is_asked_again_without_a_word_of_failure(explorer, site):
    left = answering(explorer, "pose", *[problem_json(429, "too much is waiting", **BUSY)] * 2)
    choose(explorer, PICTURE)
    assert not left
    assert len(site.poses) == 1
    assert explorer.locator("#problem").is_hidden()


def test_a_service_that_stays_busy_is_reported_and_can_be_asked_again(explorer, site):
    left = answering(explorer, "pose", *[problem_json(429, "too much is waiting", **BUSY)] * 4)
    give(explorer, PICTURE)
    assert problem(explorer) == "Too much is waiting."
    assert not left
    explorer.get_by_role("button", name="Try again").click()
    status(explorer, "joints found")
    assert explorer.locator("#problem").is_hidden()


def test_a_failure_of_the_network_is_shown_and_can_be_tried_again(explorer, site):
    site.estimator.fails_with = RuntimeError("a defect")
    give(explorer, PICTURE)
    assert "a defect" not in problem(explorer)
    assert problem(explorer) == "The network could not be run on this picture."
    site.estimator.fails_with = None
    explorer.get_by_role("button", name="Try again").click()
    status(explorer, "joints found")


def test_a_map_that_fails_leaves_the_other_and_the_poses(explorer, site):
    choose(explorer, PICTURE)
    failing = problem_json(500, "the network failed")
    explorer.route(
        "**/dependency",
        lambda route: route.fulfill(**failing) if b"mhsa" in route.request.post_data_buffer else route.continue_(),
    )
    joint(explorer, "left wrist").check()
    assert problem(explorer) == "The network failed."
    explorer.locator("[data-level=encoder] .heat").wait_for()
    assert explorer.locator("[data-level=mhsa] .heat").is_hidden()
    assert "score" in explorer.locator("#people").inner_text()
    explorer.unroute("**/dependency")
    explorer.get_by_role("button", name="Try again").click()
    explorer.locator("[data-level=mhsa] .heat").wait_for()
    assert [one.level for one in site.maps].count("encoder") == 1, "what was there is not asked for again"


def test_what_is_not_from_the_service_has_at_least_its_status(explorer):
    answering(explorer, "pose", {"status": 502, "body": "<h1>Bad gateway</h1>", "content_type": "text/html"})
    give(explorer, PICTURE)
    assert "502" in problem(explorer)
    assert "<h1>" not in problem(explorer)


def test_a_detail_with_markup_is_text(explorer):
    answering(explorer, "pose", problem_json(422, "<img src=x onerror=alert(1)> is wrong"))
    give(explorer, PICTURE)
    assert problem(explorer) == "<img src=x onerror=alert(1)> is wrong."
    assert explorer.locator("#problem img").count() == 0


def test_no_connection_is_told_and_can_be_tried_again(explorer, site):
    explorer.route("**/pose", lambda route: route.abort("connectionrefused"))
    give(explorer, PICTURE)
    assert problem(explorer) == "The service cannot be reached."
    explorer.unroute("**/pose")
    explorer.get_by_role("button", name="Try again").click()
    status(explorer, "joints found")


def test_without_the_facts_of_the_model_nothing_is_lost(visit, site):
    answering(visit.page, "model", *[problem_json(503, "starting")] * 2)
    explorer = visit.open()
    assert problem(explorer) == "Starting."
    give(explorer, PICTURE)
    explorer.locator("#workspace").wait_for()
    assert problem(explorer) == "Starting."
    explorer.get_by_role("button", name="Try again").click()
    status(explorer, "joints found")
    assert explorer.locator(".panel").count() == 2
    assert explorer.locator("#joints tr").count() == 17


@pytest.mark.parametrize("wrong_first", [False, True], ids=["right key", "wrong key first"])
def test_a_service_with_keys_asks_for_one_and_goes_on(chromium, wrong_first):
    service = make_service(admission=make_admission(api_keys=ApiKeys([KEY])))
    with site_of(service) as site:
        visit = Visit(chromium, site.address)
        explorer = visit.open()
        give(explorer, PICTURE)
        field = explorer.get_by_label("This service asks for an API key")
        field.wait_for()
        assert field.evaluate("element => element === document.activeElement")
        assert explorer.locator("#problem").is_hidden()
        if wrong_first:
            field.fill("another-key-of-some-length")
            field.press("Enter")
            explorer.get_by_text("The API key is not known.").wait_for()
            explorer.wait_for_function("() => document.activeElement.id === 'key'")
        field.fill(KEY)
        field.press("Enter")
        status(explorer, "joints found")
        assert field.is_hidden()
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        explorer.locator("#copy-pose").click()
        status(explorer, "Set KEY to your API key")
        command = explorer.evaluate("() => navigator.clipboard.readText()")
        assert '-H "X-Api-Key: $KEY"' in command
        assert KEY not in command
        assert KEY not in explorer.evaluate("() => JSON.stringify([localStorage, sessionStorage, location.href])")
        visit.end()
