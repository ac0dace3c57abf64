"""Three hundred requests of every kind at once, some good, most not: each gets its answer, and nothing stays behind."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from fakes import BrightestPixel
from http_clients import idle, make_counted, outcomes, served
from model.crop import Pixels
from model.estimator import Keypoints
from pictures import encoded, huge_png, square
from service.images import ImageLimits
from service.metrics import Metrics
from service.record import DEFECT, GONE, OK
from wires import Answer, Wire, head, in_chunks, picture_request

LIMITS = ImageLimits(max_bytes=60_000, max_pixels=1_000_000)
HUGE_PICTURE = huge_png(2000, 2000)
TOO_MANY_BYTES = bytes(LIMITS.max_bytes + 1)
FORM = {"content_type": "multipart/form-data; boundary=edge"}


class Busy(BrightestPixel):
    """Takes a few milliseconds for a batch."""

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        time.sleep(0.005)
        return super().estimate(crops, flip_test=flip_test)


def form(picture: bytes, boxes: str) -> bytes:
    field = '--edge\r\ncontent-disposition: form-data; name="{}"{}\r\n\r\n'
    image = field.format("image", '; filename="a"').encode() + picture + b"\r\n"
    return image + field.format("boxes", "").encode() + boxes.encode() + b"\r\n--edge--\r\n"


def posted(content: bytes) -> bytes:
    return head(**FORM, content_length=len(content)) + content


def chunked(picture: bytes, size: int) -> bytes:
    return head(content_type="image/png", transfer_encoding="chunked") + in_chunks(picture, size)


WRONG_BOXES = ("[[0,0,0,0]]", "[[99,99,1,1]]", "x", "[[1,2,3]]", "[[0,0,1e999,1]]", "[3]")

# Each kind of request, as bytes made from a good picture and boxes that fit, by chance; and what it may be told if
# there is room for it. Where there is none, it is told 429.
KINDS: dict[str, tuple[Callable[[bytes, str, random.Random], bytes], set[int]]] = {
    "good": (lambda picture, boxes, _: picture_request(picture, f"POST /pose?boxes={boxes} HTTP/1.1"), {200}),
    "good, mirrored": (lambda picture, _, __: picture_request(picture, "POST /pose?flip_test=1 HTTP/1.1"), {200}),
    "good form": (lambda picture, boxes, _: posted(form(picture, boxes)), {200}),
    "good, in chunks": (lambda picture, _, chance: chunked(picture, chance.randint(20, 200)), {200}),
    "cut off": (lambda picture, _, chance: picture_request(picture[: chance.randint(0, len(picture) // 2)]), {400}),
    "too many pixels": (lambda *_: picture_request(HUGE_PICTURE), {413}),
    "too many bytes": (lambda *_: picture_request(TOO_MANY_BYTES), {413}),
    "too many bytes, in chunks": (lambda *_: chunked(TOO_MANY_BYTES, 4000), {413}),
    "bad boxes": (
        lambda picture, _, chance: picture_request(picture, f"POST /pose?boxes={chance.choice(WRONG_BOXES)} HTTP/1.1"),
        {422},
    ),
    "bad type": (lambda *_: head(content_type="text/plain", content_length=3) + b"abc", {415}),
    "bad deadline": (lambda picture, _, __: picture_request(picture, x_timeout_ms="soon"), {422}),
    "short deadline": (
        lambda picture, _, chance: picture_request(picture, x_timeout_ms=chance.randint(1, 30)),
        {200, 504},
    ),
}


async def ask(port: int, kind: str, chance: random.Random, counted: Counter[tuple[str, int]]) -> None:
    make, may_be = KINDS[kind]
    picture = encoded(square(), chance.choice(["JPEG", "PNG", "WEBP"]))
    sent = make(picture, "[" + ",".join(["[0,0,60,80]"] * chance.randint(0, 5)) + "]", chance)
    leaves = chance.random() < 0.2
    await asyncio.sleep(0.3 * chance.random())
    connection = await Wire.open(port)
    try:
        if leaves:
            head_bytes = sent.index(b"\r\n\r\n") + 4
            await connection.send(sent[: chance.randint(head_bytes, len(sent))])
            await asyncio.sleep(0.02 * chance.random())
            counted[kind, 0] += 1
            return
        await connection.send(sent)
        answer: Answer = await connection.answer()
        assert answer.status_code in may_be | {429}, (kind, answer)
        assert "x-request-id" in answer.headers
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
        if answer.status_code != 200:
            assert answer.json()["status"] == answer.status_code
        counted[kind, answer.status_code] += 1
    finally:
        connection.leave()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, name
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_mixed_requests(seed):
    chance = random.Random(seed)
    kinds = [chance.choice([*KINDS, "good", "good"]) for _ in range(300)]
    estimator = Busy()
    service, metrics = make_counted(
        estimator, limits=LIMITS, max_batch=8, max_requests=40, max_waiting=60, max_held_bytes=300_000
    )
    counted: Counter[tuple[str, int]] = Counter()

    async def run() -> None:
        async with served(service, metrics) as port:
            await asyncio.gather(
                *(ask(port, kind, random.Random(f"{seed}/{n}"), counted) for n, kind in enumerate(kinds))
            )
            await idle(service)

    asyncio.run(run())
    ended = outcomes(metrics)
    assert counted.total() == sum(ended.values()) == 300, "each is recorded once"
    assert ended.get(DEFECT, 0) == 0

    told = Counter(dict.fromkeys((200, 400, 413, 415, 422, 429, 504), 0))
    for (_, status), count in counted.items():
        told[status] += count
    assert min(told[200], told[400], told[413], told[415], told[422]) > 0, "the storm had something of everything"
    # Those who left (status 0) may have been answered before they did.
    assert told[200] <= ended[OK] <= told[200] + told[0]
    assert ended[GONE] <= told[0]
    refused = sum(count for outcome, count in ended.items() if outcome not in (OK, GONE))
    assert (
        sum(value(metrics, "btranspose_rejections_total", reason=outcome) for outcome in set(ended) - {OK, GONE})
        == refused
    )
    assert told.total() - told[0] - told[200] <= refused <= told.total() - told[200]

    computed = sum(estimator.batches)
    assert value(metrics, "btranspose_batch_persons_sum") == computed
    assert value(metrics, "btranspose_persons_total") <= computed
    assert max(estimator.batches) <= 8
    for gauge in ("btranspose_in_flight_requests", "btranspose_in_flight_persons", "btranspose_queue_persons"):
        assert value(metrics, gauge) == 0
