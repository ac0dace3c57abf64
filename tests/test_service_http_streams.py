"""Bodies against real sockets: too large, too slow, in chunks, cut off by a client who leaves."""

from __future__ import annotations

import asyncio

import pytest

from fakes import BrightestPixel
from http_clients import PATIENCE_S, assert_problem, idle, make_counted, outcomes, served, until
from pictures import SIZE, jpeg
from service import http_protocol
from service.api_keys import ApiKeys
from service.core import PoseService
from service.http_body import MULTIPART_OVERHEAD_BYTES
from service.images import ImageLimits
from service.metrics import Metrics
from wires import GET, HEALTHY, Wire, assert_refused, head, in_chunks, naming, on_a_server, picture_request, wire

FEW = ImageLimits(max_bytes=10_000)
PIECE = bytes(2**16)
ENOUGH = 64 * 2**20  # far more than fits into the buffers of a connection

FORM = {"content_type": "multipart/form-data; boundary=edge"}
FORM_START = b'--edge\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
FORM_END = b"\r\n--edge--\r\n"
CHUNKED = {"transfer_encoding": "chunked"}


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


TOO_LARGE_BODIES = {
    "that says so": (head(content_type="image/jpeg", content_length=ENOUGH), PIECE),
    "that says an absurd size": (head(content_type="image/jpeg", content_length=2**63), PIECE),
    "in chunks": (head(content_type="image/jpeg", **CHUNKED), chunk(PIECE)),
    "in tiny chunks": (head(content_type="image/jpeg", **CHUNKED), chunk(b"x" * 20) * 3000),
    "of a form that says so": (head(**FORM, content_length=ENOUGH) + FORM_START, PIECE),
    "of a form in chunks": (head(**FORM, **CHUNKED) + chunk(FORM_START), chunk(PIECE)),
}


@pytest.mark.parametrize(("start", "piece"), TOO_LARGE_BODIES.values(), ids=TOO_LARGE_BODIES)
def test_a_body_that_is_too_large_is_refused_without_being_read(start, piece):
    sent = 0

    async def send_all(connection: Wire) -> None:
        nonlocal sent
        while sent < ENOUGH and await connection.send(piece):
            sent += len(piece)

    async def scene(port: int) -> None:
        async with wire(port, start) as connection:
            sending = asyncio.create_task(send_all(connection))
            await assert_refused(connection, 413, "at most 10000 bytes")
            await sending

    assert on_a_server(scene, limits=FEW) == {"too_large": 1}
    assert sent < ENOUGH, "the client was stopped"


def test_a_field_that_is_no_picture_may_not_be_large_either():
    field = b'--edge\r\ncontent-disposition: form-data; name="boxes"\r\n\r\n'

    async def scene(port: int) -> None:
        async with wire(port, head(**FORM, **CHUNKED), chunk(field)) as connection:
            for _ in range(2 * MULTIPART_OVERHEAD_BYTES // len(PIECE)):
                if not await connection.send(chunk(PIECE)):
                    break
            await assert_refused(connection, 422, "Part exceeded maximum size")

    assert on_a_server(scene, limits=FEW) == {"invalid_parameter": 1}


KEY = "the-key-of-a-camera"
WITH_KEY = {"content_type": "image/jpeg", "x_api_key": KEY}
REFUSED_UNREAD = {
    "of no path": ("POST /nothing HTTP/1.1", {}, 404),
    "of another method": ("PUT /pose HTTP/1.1", {}, 405),
    "of a health check": ("POST /healthz HTTP/1.1", {}, 405),
    "without a key": ("POST /pose HTTP/1.1", {"content_type": "image/jpeg"}, 401),
    "of another type": ("POST /pose HTTP/1.1", {**WITH_KEY, "content_type": "video/mp4"}, 415),
    "with a bad deadline": ("POST /pose HTTP/1.1", {**WITH_KEY, "x_timeout_ms": "soon"}, 422),
}


@pytest.mark.parametrize("framing", [{"content_length": ENOUGH}, CHUNKED], ids=["length", "chunks"])
def test_what_is_refused_before_its_body_is_read_closes(framing):
    """Or the rest of the body would be read as the next request."""
    smuggled = head("GET /model HTTP/1.1") * 10
    sent = chunk(smuggled) if framing is CHUNKED else smuggled

    async def scene(port: int) -> None:
        for what, (line, headers, status) in REFUSED_UNREAD.items():
            async with wire(port, head(line, **headers, **framing), sent) as connection:
                with naming(what):
                    await assert_refused(connection, status, "")

    ended = on_a_server(scene, api_keys=ApiKeys([KEY]))
    assert ended == {"unauthenticated": 1, "unsupported_media": 1, "invalid_parameter": 1}


def test_a_client_who_never_stops_is_not_listened_to_for_long(monkeypatch):
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.1)

    async def scene(port: int) -> None:
        async with wire(port, head(content_type="video/mp4", content_length=ENOUGH)) as connection:
            await assert_refused(connection, 415, "")
            async with asyncio.timeout(PATIENCE_S):
                while await connection.send(b"x"):
                    await asyncio.sleep(0.01)

    on_a_server(scene)


def test_a_client_who_is_refused_while_its_first_request_is_at_work(caplog):
    """It gets one answer, that of the refusal; what comes of the first is not written after it."""
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator)

    async def run() -> None:
        async with served(service, metrics) as port:
            estimator.gate.clear()
            async with wire(port, picture_request(jpeg())) as connection:
                await until(lambda: service._engine._batcher.running == 1)
                await connection.send(b"nonsense\r\n\r\n")
                await assert_refused(connection, 400, "not an HTTP/1.1 request")
                estimator.gate.set()
                await idle(service)

    asyncio.run(run())
    assert sum(outcomes(metrics).values()) == 1
    assert "Exception in ASGI" not in caplog.text


def test_what_is_refused_after_its_body_was_read_stays_open():
    async def scene(port: int) -> None:
        async with wire(port) as connection:
            for line in ("POST /pose?boxes=3 HTTP/1.1", "POST /pose?unknown=1 HTTP/1.1"):
                await connection.send(picture_request(jpeg(), line))
                assert_problem(await connection.answer(), 422, "")
            await connection.send(picture_request(jpeg()))
            assert (await connection.answer()).status_code == 200

    assert on_a_server(scene) == {"invalid_parameter": 2, "ok": 1}


def test_a_body_in_chunks():
    async def scene(port: int) -> None:
        async with wire(port) as connection:
            for size in (1, 7, 300, 10**6):
                await connection.send(head(content_type="image/jpeg", **CHUNKED), in_chunks(jpeg(), size))
                answer = await connection.answer()
                assert (answer.status_code, answer.json()["image"]["width"]) == (200, SIZE[0])
            form = FORM_START + jpeg() + FORM_END
            await connection.send(head(**FORM, **CHUNKED), in_chunks(form, 11))
            assert (await connection.answer()).status_code == 200

    assert on_a_server(scene) == {"ok": 5}


@pytest.mark.parametrize("sent", [b"", jpeg()[:100]])
@pytest.mark.parametrize("framing", [{"content_length": len(jpeg())}, CHUNKED], ids=["length", "chunks"])
def test_a_body_that_does_not_come(sent, framing):
    service, metrics = make_counted()

    async def run() -> None:
        part = chunk(sent) if framing is CHUNKED and sent else sent
        async with (
            served(service, metrics, body_timeout_s=0.1) as port,
            wire(port, head(content_type="image/jpeg", **framing) + part) as connection,
        ):
            await assert_refused(connection, 408, "the body did not arrive within 0.1 s")
            await idle(service)

    asyncio.run(run())
    assert outcomes(metrics) == {"slow_request": 1}


def test_expect_100_continue():
    async def scene(port: int) -> None:
        polite = head(content_type="image/jpeg", content_length=len(jpeg()), expect="100-continue")
        async with wire(port, polite) as connection:
            assert (await connection.answer()).status_code == 100
            await connection.send(jpeg())
            assert (await connection.answer()).status_code == 200
            await connection.send(GET)
            assert (await connection.answer()).content == HEALTHY
        too_large = head(content_type="image/jpeg", content_length=ENOUGH, expect="100-continue")
        async with wire(port, too_large) as connection:
            await assert_refused(connection, 413, "at most 10000 bytes")

    assert on_a_server(scene, limits=FEW) == {"ok": 1, "too_large": 1}


@pytest.mark.parametrize("sent", [0, 100, len(jpeg()) - 1])
def test_a_client_who_leaves_while_sending(sent):
    request = picture_request(jpeg())
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator)

    async def run() -> None:
        async with served(service, metrics) as port:
            warmed_up = list(estimator.batches)
            async with wire(port, request[: len(request) - len(jpeg()) + sent]):
                await until(lambda: service.admission.requests == 1)
            await idle(service)
            assert estimator.batches == warmed_up

    asyncio.run(run())
    assert outcomes(metrics) == {"gone": 1}


async def someone_at_work(estimator: BrightestPixel, service: PoseService, port: int) -> Wire:
    """Keeps the network busy, and the gate is closed."""
    estimator.gate.clear()
    connection = await Wire.open(port)
    await connection.send(picture_request(jpeg()))
    await until(lambda: service._engine._batcher.running == 1)
    return connection


@pytest.mark.parametrize("leave", [Wire.leave, Wire.end_sending], ids=["close", "half-close"])
def test_a_client_who_leaves_while_waiting_frees_its_place_and_nothing_is_computed(leave):
    """A client that closes its half for sending has left, too, as most servers see it."""
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator)

    async def run() -> None:
        async with served(service, metrics) as port:
            try:
                other = await someone_at_work(estimator, service, port)
                leavers = [await Wire.open(port) for _ in range(5)]
                for connection in leavers:
                    await connection.send(picture_request(jpeg()))
                await until(lambda: service._engine.waiting == 5)
                for connection in leavers:
                    leave(connection)
                await until(lambda: service.admission.requests == service._engine.persons == 1)
            finally:
                estimator.gate.set()
            assert (await other.answer()).status_code == 200
            other.leave()
            for connection in leavers:
                connection.leave()
            await idle(service)

    asyncio.run(run())
    assert outcomes(metrics) == {"ok": 1, "gone": 5}
    assert estimator.batches == [1, 1], "warming up, and the one who stayed"
    assert dropped(metrics) == {"gone": 5}


def test_a_client_who_leaves_with_many_requests_on_its_connection_leaves_all_of_them():
    estimator = BrightestPixel()
    service, metrics = make_counted(estimator)

    async def run() -> None:
        async with served(service, metrics) as port:
            try:
                other = await someone_at_work(estimator, service, port)
                async with wire(port, picture_request(jpeg()) * 3):
                    await until(lambda: service._engine.waiting == 1)
                await until(lambda: service.admission.requests == service._engine.persons == 1)
            finally:
                estimator.gate.set()
            assert (await other.answer()).status_code == 200
            other.leave()
            await idle(service)

    asyncio.run(run())
    assert outcomes(metrics) == {"ok": 1, "gone": 1}, "the second and third were never begun"
    assert estimator.batches == [1, 1]


def dropped(metrics: Metrics) -> dict[str, float]:
    found = {
        reason: metrics.registry.get_sample_value("btranspose_dropped_persons_total", {"reason": reason})
        for reason in ("gone", "late", "failed")
    }
    return {reason: count for reason, count in found.items() if count}
