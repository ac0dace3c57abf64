"""The bodies of HTTP requests: types, forms, limits of bytes, pixels and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from fakes import make_service
from http_clients import JPEG, ask, assert_problem, client_of, post
from pictures import huge_png, jpeg
from service.images import ImageLimits


def test_bad_forms():
    files, data = {"image": ("p.jpg", jpeg())}, {"boxes": "[]"}
    assert_problem(ask(lambda client: client.post("/pose", data=data, files={"photo": jpeg()})), 422, "'image'")
    assert_problem(ask(lambda client: client.post("/pose", files={**files, "b": b"2"})), 422, "cannot be read")
    no_boundary = post(b"xx", headers={"Content-Type": "multipart/form-data"})
    assert_problem(no_boundary, 422, "cannot be read")
    charset = {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}
    field = b'--x\r\nContent-Disposition: form-data; name="boxes"\r\n\r\n[]\r\n--x--\r\n'
    assert_problem(post(field, headers=charset), 422, "cannot be read")
    broken = post(b"not a form", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert_problem(broken, 422, "")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", "video/mp4"])
def test_other_content_types(kind):
    assert_problem(
        post(jpeg(), headers={"Content-Type": kind}), 415, f"the content type is '{kind}'; allowed: image/jpeg"
    )


def test_no_content_type():
    assert_problem(ask(lambda client: client.post("/pose", content=jpeg())), 415, "missing")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_not_a_picture_or_too_large_and_the_service_goes_on():
    async def run() -> None:
        async with client_of(make_service()) as client:
            for content, status, detail in (
                (b"", 400, "empty"),
                (b"hello", 400, "not a JPEG, PNG or WebP"),
                (jpeg()[:400], 400, "cut off"),
                (huge_png(), 413, "13000 x 13000"),
            ):
                assert_problem(await client.post("/pose", content=content, headers=JPEG), status, detail)
                assert (await client.post("/pose", content=jpeg(), headers=JPEG)).status_code == 200

    asyncio.run(run())


def test_too_many_bytes_are_refused_before_they_are_read():
    service = make_service(limits=ImageLimits(max_bytes=2000))
    refused = post(bytes(2001), service)
    assert_problem(refused, 413, "at most 2000 bytes")
    assert refused.headers["connection"] == "close", "or the connection would wait for the rest of the body"
    absurd = {"Content-Type": "image/jpeg", "Content-Length": "9" * 5000}
    assert_problem(post(bytes(1), make_service(), headers=absurd), 413, "at most")

    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 500
            yield bytes(500)

    response = ask(
        lambda client: client.post("/pose", content=endless(), headers=JPEG),
        make_service(limits=ImageLimits(max_bytes=2000)),
    )
    assert_problem(response, 413, "at most 2000 bytes")
    assert read < 5000


def test_too_many_bytes_in_a_form():
    service = make_service(limits=ImageLimits(max_bytes=2000))
    form = ask(lambda client: client.post("/pose", files={"image": ("p.jpg", bytes(2001))}), service)
    assert_problem(form, 413, "at most 2000")


def test_a_body_that_does_not_arrive_is_given_up():
    async def stalls() -> AsyncIterator[bytes]:
        yield jpeg()[:100]
        await asyncio.Event().wait()

    async def run() -> httpx.Response:
        async with client_of(make_service(), body_timeout_s=0.05) as client:
            return await client.post("/pose", content=stalls(), headers=JPEG)

    assert_problem(asyncio.run(run()), 408, "did not arrive within 0.05 s")
