"""More than ten thousand bodies that mean no good: each gets an answer that is documented, and none says more."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import httpx
import numpy as np
import pytest

from http_clients import client_of, idle, make_counted, outcomes
from mutants import mutated, seeds
from service.errors import NotAnImage, TooLarge
from service.images import ImageLimits, decode_image

PICTURES = seeds()
LIMITS = ImageLimits(max_bytes=50_000, max_pixels=5_000, max_side=1_000)
REQUESTS = 600  # of each kind
INSIDE = ("object at", "Traceback", "site-packages", "PIL", "Error:", "/usr/")

# Production shows what a decoder warns of, and goes on; here every warning would be an error.
pytestmark = pytest.mark.filterwarnings("ignore")


def assert_tells_nothing_of_the_inside(text: str, *, repeats_what_was_sent: bool = False) -> None:
    for word in INSIDE if repeats_what_was_sent else (*INSIDE, "0x"):
        assert word not in text


def decode_spoilt_pictures(chance: random.Random, rounds: int) -> int:
    """How many were tried."""
    ended = Counter({"decoded": 0, "refused": 0, "too large": 0})
    for _ in range(rounds):
        content = mutated(chance.choice(PICTURES), PICTURES, chance)
        try:
            pixels = decode_image(content, LIMITS)
        except (NotAnImage, TooLarge) as error:
            ended["refused" if isinstance(error, NotAnImage) else "too large"] += 1
            assert_tells_nothing_of_the_inside(str(error))
        else:
            ended["decoded"] += 1
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            assert 1 <= pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels
            assert max(pixels.shape) <= LIMITS.max_side
    assert min(ended.values()) > 0, "some must pass and some not, or the damage is no test"
    return ended.total()


def test_ten_thousand_spoilt_pictures_are_decoded_or_refused():
    assert decode_spoilt_pictures(random.Random("pictures"), 10_000) == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_more_spoilt_pictures_are_decoded_or_refused(seed):
    assert decode_spoilt_pictures(random.Random(f"more pictures {seed}"), 50_000) == 50_000


def random_type(chance: random.Random) -> bytes:
    good = [b"image/jpeg", b"image/png", b"image/webp", b"IMAGE/JPEG; q=1", b"image/x-unknown"]
    return chance.choice([*good, mutated(b"image/jpeg", good, chance), b"text/plain", chance.randbytes(8), b""])


CHARSETS = (b"utf-7", b"utf-16", b"unicode_escape", b"idna", b"punycode", b"hex", b"rot13", b"\xff", b"", b"undefined")
NUMBERS = ("0", "9", "-3", "1.5", "3e0", "1e-9", "1e999", "-1e999", "NaN", "Infinity", "-0.0", "1" * 400, "1" * 5000)
OTHERS = ("true", "null", '"9"', "[]", "{}", '{"a": [1]}', "", "0x10", "1_000", "\u0660")


def random_boxes(chance: random.Random) -> str:
    way = chance.random()
    if way < 0.5:
        return "[[0,0,9,9]]"
    if way < 0.7:
        boxes = [["0", "0", "9", "9"] for _ in range(chance.choice([1, 2, 3, 300]))]
        wrong = chance.choice(boxes)
        wrong[chance.randrange(4)] = chance.choice(NUMBERS if chance.random() < 0.7 else OTHERS)
        return f"[{','.join(f'[{chr(44).join(box)}]' for box in boxes)}]"
    if way < 0.8:
        return chance.choice(["[", "[[", '{"a":', "\x00"]) * chance.choice([1, 2, 3_000])
    good = [b"[]", b"[[1.5,2,3e0,4],[0,0,24,32]]", b'[{"a":[null,true]}]', b"[[NaN,Infinity,-1e999,1e400]]"]
    return mutated(chance.choice(good), good, chance).decode("utf-8", "replace")


def raw(chance: random.Random) -> dict[str, object]:
    content = chance.choice(PICTURES)
    if chance.random() < 0.7:
        content = mutated(content, PICTURES, chance)
    params = {}
    if chance.random() < 0.5:
        params["boxes"] = random_boxes(chance)
    if chance.random() < 0.2:
        params[chance.choice(["flip_test", "boxs", "boxes\x00", ""])] = chance.choice(
            ["1", "true", "maybe", "\x00", "é"]
        )
    kind = random_type(chance) if chance.random() < 0.3 else b"image/png"
    return {"content": content, "params": params, "headers": {"content-type": kind}}


def form(chance: random.Random) -> dict[str, object]:
    files = {chance.choice(["image"] * 9 + ["photo"]): ("a.jpg", chance.choice(PICTURES))}
    kind = b"multipart/form-data; boundary=edge"
    data = {"boxes": random_boxes(chance)}
    content = httpx.Request("POST", "http://test", headers={"content-type": kind}, files=files, data=data).read()
    if chance.random() < 0.7:
        # Half of the damage where it is worst: at the edges between the parts.
        edge = chance.randrange(min(400, len(content)))
        content = chance.choice(
            [mutated(content, PICTURES, chance), mutated(content[:edge], [content], chance) + content[edge:]]
        )
    if chance.random() < 0.2:
        kind += b"; charset=" + chance.choice(CHARSETS)
    if chance.random() < 0.1:
        kind = mutated(kind, [kind], chance)
    return {"content": content, "headers": {"content-type": kind}}


@pytest.mark.parametrize("make", [raw, form])
def test_spoilt_requests_get_documented_answers(make: Callable[[random.Random], dict[str, object]]):
    chance = random.Random(f"requests {make.__name__}")
    statuses: Counter[int] = Counter()
    service, metrics = make_counted(limits=LIMITS)

    async def run() -> None:
        async with client_of(service, metrics) as client:
            for _ in range(REQUESTS):
                asked = make(chance)
                answer = await client.post("/pose", **asked)
                assert answer.status_code in {200, 400, 413, 415, 422}, (answer.text, asked)
                statuses[answer.status_code] += 1
                if answer.status_code != 200:
                    assert answer.json()["status"] == answer.status_code
                    repeats = answer.status_code in (415, 422)
                    assert_tells_nothing_of_the_inside(answer.text, repeats_what_was_sent=repeats)
            await idle(service)

    asyncio.run(run())
    assert sum(outcomes(metrics).values()) == statuses.total() == REQUESTS
    assert min(statuses[200], statuses[400], statuses[422]) > 10
