"""HTTP as it stands on the wire: many requests on a connection, nonsense, offers of other protocols, TLS."""

from __future__ import annotations

import asyncio
import re
import ssl

import httpx
import pytest
import trustme

from http_clients import JPEG, assert_problem, make_counted, outcomes, served
from pictures import encoded, jpeg, square
from service.http_server import make_http_server
from wires import GET, HEALTHY, assert_refused, head, in_chunks, naming, on_a_server, picture_request, wire


def test_many_requests_on_one_connection():
    async def scene(port: int) -> None:
        async with wire(port) as connection:
            for number in range(5):
                await connection.send(picture_request(jpeg(), x_request_id=number))
                answer = await connection.answer()
                assert (answer.status_code, answer.headers["x-request-id"]) == (200, str(number))
                assert "connection" not in answer.headers
                await connection.send(picture_request(b"no picture"))
                assert_problem(await connection.answer(), 400, "not a JPEG")
                await connection.send(head("HEAD /healthz HTTP/1.1"))
                assert (await connection.answer(to_head=True)).status_code == 200

    assert on_a_server(scene) == {"ok": 5, "not_an_image": 5}


def test_pipelined_requests_are_answered_in_order():
    centers = [(10 + 3 * n, 70 - 5 * n) for n in range(12)]
    requests = [picture_request(encoded(square(center=at)), x_request_id=n) for n, at in enumerate(centers)]

    async def scene(port: int) -> None:
        async with wire(port, b"".join(requests), GET) as connection:
            for number, center in enumerate(centers):
                answer = await connection.answer()
                assert answer.headers["x-request-id"] == str(number)
                found = answer.json()["poses"][0]["keypoints"][:2]
                assert found == pytest.approx(center, abs=1.0)
            assert (await connection.answer()).content == HEALTHY

    assert on_a_server(scene) == {"ok": 12}


NONSENSE = {
    "noise": bytes(range(256)) * 4,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a proxy is meant": b"CONNECT test:80 HTTP/1.1\r\nhost: test\r\n\r\n",
    "unknown method": b"FETCH /healthz HTTP/1.1\r\nhost: test\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nhost: test\r\n\r\n",
    "a bad header": b"GET /healthz HTTP/1.1\r\nhost test\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nhost: test\r\nx : y\r\n\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: y\r\n z\r\n\r\n",
    "a null in a header": b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: \x00\r\n\r\n",
    "a bad length": head(content_type="image/jpeg", content_length="ten"),
    "a negative length": head(content_type="image/jpeg", content_length=-1),
    "two lengths": head(content_type="image/jpeg", content_length="3\r\ncontent-length: 4") + b"abcd",
    "a length and chunks": head(content_length=3, transfer_encoding="chunked") + b"0\r\n\r\n",
    "a bad chunk": head(content_type="image/jpeg", transfer_encoding="chunked") + b"zz\r\n",
}


def test_what_is_not_a_request():
    async def scene(port: int) -> None:
        for what, sent in NONSENSE.items():
            async with wire(port, sent) as connection:
                with naming(what):
                    await assert_refused(connection, 400, "not an HTTP/1.1 request")

    assert set(on_a_server(scene)) <= {"gone"}


OFFER = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
OFFERS = {
    "by Java": OFFER,
    "by curl": {
        "connection": "Upgrade, HTTP2-Settings, keep-alive",
        "upgrade": "h2c",
        "http2_settings": "AAMAAABkAAQA",
    },
    "twice": {**OFFER, "Connection": "upgrade", "Upgrade": "h2c"},
    "of a socket": {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec_websocket_key": "eHg=",
        "sec_websocket_version": 13,
    },
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_offer_to_speak_another_protocol_is_passed_over(offer):
    """Java's own client makes one with its first request, whose body must not get lost over it."""
    chunked = head(content_type="image/jpeg", transfer_encoding="chunked", **offer) + in_chunks(jpeg())
    sent = picture_request(jpeg(), **offer) + chunked + picture_request(jpeg()) + head("GET /healthz HTTP/1.1", **offer)

    async def scene(port: int) -> None:
        for cut in (0, 40, 200, 500, 1200):
            async with wire(port, sent[:cut]) as connection:
                await asyncio.sleep(0)
                await connection.send(sent[cut:])
                for _ in range(3):
                    answer = await connection.answer()
                    assert answer.status_code == 200, (cut, answer.text)
                assert (await connection.answer()).content == HEALTHY

    assert on_a_server(scene) == {"ok": 15}


def test_http_1_0():
    async def scene(port: int) -> None:
        async with wire(port, picture_request(jpeg(), "POST /pose HTTP/1.0")) as connection:
            answer = await connection.answer()
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert await connection.closed()

    assert on_a_server(scene) == {"ok": 1}


def test_the_server_does_not_name_its_maker():
    async def scene(port: int) -> None:
        for sent in (GET, b"nonsense\r\n\r\n"):
            async with wire(port, sent) as connection:
                answer = await connection.answer()
                assert "server" not in answer.headers
                assert not re.search("uvicorn|python|starlette", str(answer), re.IGNORECASE)

    on_a_server(scene)


def test_tls(tmp_path):
    authority, certificate, key = trustme.CA(), tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    for part in issued.cert_chain_pems:
        part.write_to_path(certificate, append=True)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    service, metrics = make_counted()

    async def run() -> None:
        async with (
            served(service, metrics, tls_cert=certificate, tls_key=key) as port,
            httpx.AsyncClient(verify=trusting, base_url=f"https://127.0.0.1:{port}") as client,
            httpx.AsyncClient(verify=ssl.create_default_context()) as stranger,
        ):
            answer = await client.post("/pose", content=jpeg(), headers=JPEG)
            assert answer.status_code == 200
            async with wire(port, GET) as plain:
                assert await plain.closed(), "plain text gets no answer"
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.get(f"https://127.0.0.1:{port}/healthz")

    asyncio.run(run())
    assert outcomes(metrics) == {"ok": 1}


def test_a_certificate_that_cannot_be_used_is_told_before_anything_starts(tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    service, _ = make_counted()
    for name in ("cert.pem", "missing.pem"):
        with pytest.raises(ValueError, match=f"{name} .* cannot be used for TLS"):
            make_http_server(None, host="127.0.0.1", port=0, tls_cert=tmp_path / name, tls_key=tmp_path / name)
    assert service.close(5.0)
