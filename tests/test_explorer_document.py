"""The page at `/` as a document: one file, nothing from elsewhere, and headers that hold it to that."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import httpx
import pytest

from fakes import make_service
from http_clients import ask
from service.http_explorer import SCRIPTS, SOURCES, fill, is_known


@pytest.fixture(scope="module")
def answer() -> httpx.Response:
    return ask(lambda client: client.get("/"))


def test_the_root_is_the_explorer(answer):
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text.startswith("<!doctype html>")
    assert "<title>BTranspose explorer</title>" in answer.text


def test_every_script_is_in_the_page_once(answer):
    assert {path.name for path in SOURCES.glob("*.js")} == set(SCRIPTS)
    for name in SCRIPTS:
        assert answer.text.count((SOURCES / name).read_text()) == 1


def test_nothing_comes_from_elsewhere_and_all_addresses_are_relative(answer):
    text = answer.text.replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
    assert not re.search(r"https?://|//\w+\.\w+/|@import|url\(", text)
    links = re.findall(r'(?:href|src|action)="([^"]*)"', text)
    assert {"docs", "metrics"} <= set(links)
    assert not [link for link in links if link.startswith("/")]
    assert not re.search(r"""(?:fetch|ask)\(["'`]/""", text)
    assert "innerHTML" not in text
    assert " style=" not in text
    assert not re.search(r"\son\w+=", text)


def test_the_policy_allows_this_style_and_this_script_only(answer):
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": _hash_of(answer.text, "script"),
        "style-src": _hash_of(answer.text, "style"),
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def _hash_of(page: str, element: str) -> str:
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_a_known_page_is_not_sent_again(answer):
    etag = answer.headers["etag"]
    assert answer.headers["cache-control"] == "no-cache"
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = ask(lambda client, tags=tags: client.get("/", headers={"If-None-Match": tags}))
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert "content-security-policy" in again.headers
    assert ask(lambda client: client.get("/", headers={"If-None-Match": '"other"'})).status_code == 200


def test_head_has_the_headers_of_get(answer):
    head = ask(lambda client: client.head("/"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "content-security-policy"):
        assert head.headers[name] == answer.headers[name]


def test_the_root_is_no_part_of_the_documented_interface():
    assert "/" not in ask(lambda client: client.get("/openapi.json"), make_service()).json()["paths"]


def test_a_page_without_its_slots_does_not_start():
    assert fill("a<x>b", {"<x>": "y"}) == "ayb"
    for page in ("ab", "<x><x>"):
        with pytest.raises(ValueError, match=r"<x> [02] times; allowed: once"):
            fill(page, {"<x>": "y"})


def test_tags_are_compared_weakly():
    assert is_known('"a"', ' "b" , W/"a"')
    assert not is_known('"a"', "")
    assert not is_known('"a"', '"ab"')


@pytest.mark.parametrize("path", sorted(SOURCES.iterdir()), ids=lambda path: path.name)
def test_the_parts_are_short(path: Path):
    assert len(path.read_text().splitlines()) <= 250
