"""The door of the service: who comes in, how many, for how long, and what is told of each when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress

import pytest

from callers import play, until
from fakes import make_admission
from service.admission import Admission
from service.api_keys import ApiKeys
from service.errors import ALL_ERRORS, Late, NotAnImage, Overloaded, Unauthenticated, Unavailable
from service.record import Caller, CallerGone, RequestRecord

KEY = "0123456789abcdef"


def caller(**options) -> Caller:
    return Caller(protocol="test", method="pose", **options)


def opened(**options) -> Admission:
    admission = make_admission(**options)
    admission.closed_because = None
    return admission


async def hang() -> None:
    await asyncio.Event().wait()


async def ask(
    admission: Admission, kind: str = "request", work: Callable[[], Awaitable[None]] | None = None, **options
):
    """One request that does some work; the record of it."""
    if kind == "stream":
        with admission.stream(caller(**options)) as record:
            await (work or (lambda: asyncio.sleep(0)))()
    else:
        async with getattr(admission, kind)(caller(**options)) as record:
            await (work or (lambda: asyncio.sleep(0)))()
    return record


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        raise error

    return work


every_kind = pytest.mark.parametrize("kind", ["request", "stream", "frame"])
OUTCOMES = [
    *((error("any"), error.reason) for error in ALL_ERRORS),
    (asyncio.CancelledError(), "gone"),
    (CallerGone(), "gone"),
    (ZeroDivisionError(), "internal"),
    (TimeoutError("of something else"), "internal"),
]


@every_kind
def test_the_observers_are_told_once_of_what_went_well(kind):
    told: list[RequestRecord] = []
    told_too: list[RequestRecord] = []

    async def scenario() -> None:
        admission = opened(observers=[told.append, told_too.append])

        async def work() -> None:
            assert told == []

        record = await ask(admission, kind, work)
        assert told == told_too == [record]
        assert (record.outcome, record.caller.method) == ("ok", "pose")
        assert record.finished_s >= record.started_s
        assert record.total_s == record.finished_s - record.started_s

    play(scenario)


@every_kind
@pytest.mark.parametrize(("error", "outcome"), OUTCOMES, ids=[type(error).__name__ for error, _ in OUTCOMES])
def test_the_observers_are_told_once_of_what_went_wrong(kind, error, outcome):
    told: list[RequestRecord] = []

    async def scenario() -> None:
        admission = opened(observers=[told.append])
        with pytest.raises(type(error)) as raised:
            await ask(admission, kind, raising(error))
        assert raised.value is error
        assert [record.outcome for record in told] == [outcome]
        assert told[0].finished_s >= told[0].started_s
        assert admission.requests == 0

    play(scenario)


def test_every_error_has_a_reason_of_its_own():
    reasons = [error.reason for error in ALL_ERRORS]
    assert len(set(reasons)) == len(reasons)
    assert NotAnImage.reason == "not_an_image"


@every_kind
def test_a_request_whose_task_is_cancelled_is_gone(kind):
    told: list[RequestRecord] = []

    async def scenario() -> None:
        admission = opened(observers=[told.append])
        task = asyncio.create_task(ask(admission, kind, hang))
        await asyncio.sleep(0)
        assert told == []
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [record.outcome for record in told] == ["gone"]
        assert admission.requests == 0

    play(scenario)


@every_kind
def test_an_observer_that_fails_changes_nothing(kind):
    told: list[RequestRecord] = []

    def broken(record: RequestRecord) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        admission = opened(observers=[broken, told.append], max_requests=1)
        assert (await ask(admission, kind)).outcome == "ok"
        with pytest.raises(NotAnImage):
            await ask(admission, kind, raising(NotAnImage("any")))
        assert [record.outcome for record in told] == ["ok", "not_an_image"]
        assert admission.requests == 0

    play(scenario)


@pytest.mark.parametrize("kind", ["request", "stream"])
def test_requests_are_taken_up_to_a_number_and_places_come_back(kind):
    told: list[RequestRecord] = []

    async def scenario() -> None:
        admission = opened(max_requests=2, observers=[told.append])
        for _ in range(2):
            with ExitStack() as places:
                places.enter_context(admission.stream(caller()))
                with pytest.raises(NotAnImage):
                    await ask(admission, kind, raising(NotAnImage("any")))
                places.enter_context(admission.stream(caller()))
                assert admission.requests == 2
                with pytest.raises(Overloaded, match="2 requests are being worked on; allowed: at most 2"):
                    await ask(admission, kind)
                assert admission.requests == 2
            assert admission.requests == 0
        assert [record.outcome for record in told] == ["not_an_image", "overloaded", "ok", "ok"] * 2

    play(scenario)


@pytest.mark.parametrize("kind", ["request", "stream"])
def test_nobody_comes_in_until_it_is_open_and_after_it_is_closed(kind):
    told: list[RequestRecord] = []

    async def scenario() -> None:
        admission = make_admission(observers=[told.append])
        with pytest.raises(Unavailable, match="not ready: starting"):
            await ask(admission, kind)
        admission.closed_because = None
        await ask(admission, kind)
        admission.closed_because = "the service is shutting down"
        with pytest.raises(Unavailable, match="shutting down"):
            await ask(admission, kind)
        assert [record.outcome for record in told] == ["unavailable", "ok", "unavailable"]

    play(scenario)


def test_the_frames_of_a_stream_need_no_place_and_go_on_while_it_is_closed():
    async def scenario() -> None:
        admission = opened(max_requests=1)
        with admission.stream(caller()) as stream:
            admission.closed_because = "the service is shutting down"
            frames = [await ask(admission, "frame") for _ in range(3)]
            assert admission.requests == 1
        assert [record.outcome for record in (stream, *frames)] == ["ok"] * 4

    play(scenario)


@pytest.mark.parametrize("kind", ["request", "stream"])
def test_with_keys_only_those_who_have_one_come_in(kind):
    told: list[RequestRecord] = []

    async def scenario() -> None:
        admission = opened(api_keys=ApiKeys([KEY]), observers=[told.append])
        await ask(admission, kind, api_key=KEY)
        for key in (None, "another key that is long enough"):
            with pytest.raises(Unauthenticated):
                await ask(admission, kind, api_key=key)
            with pytest.raises(Unauthenticated):
                admission.authenticate(caller(api_key=key))
        admission.authenticate(caller(api_key=KEY))
        assert [record.outcome for record in told] == ["ok", "unauthenticated", "unauthenticated"]
        admission.closed_because = "starting"
        with pytest.raises(Unauthenticated):  # strangers do not learn that
            await ask(admission, kind)

    play(scenario)


def test_without_keys_everybody_comes_in():
    opened().authenticate(caller())
    opened().authenticate(caller(api_key="any"))


def test_the_bytes_of_pictures_are_counted_until_their_requests_are_over():
    async def scenario() -> None:
        admission = opened(max_held_bytes=100)
        full = pytest.raises(
            Overloaded, match="pictures of 90 bytes are being worked on; allowed: at most 100 at a time"
        )
        async with admission.request(caller()) as first:
            admission.hold(first, 30)
            admission.hold(first, 30)
            with admission.stream(caller()) as stream, admission.stream(caller()) as other:
                admission.hold(stream, 30)
                with full:
                    admission.hold(other, 11)
                assert [record.image_bytes for record in (first, stream, other)] == [60, 30, 0]
            async with admission.frame(caller()) as frame:
                admission.hold(frame, 40)
        with suppress(NotAnImage), admission.stream(caller()) as fails:
            admission.hold(fails, 100)
            raise NotAnImage("any")
        async with admission.request(caller()) as last:
            admission.hold(last, 100)

    play(scenario)


@pytest.mark.parametrize("kind", ["request", "frame"])
@pytest.mark.parametrize(("asked_s", "own_s"), [(None, 0.002), (0.002, 30.0), (30.0, 0.002)])
def test_the_shorter_time_of_caller_and_service_holds(kind, asked_s, own_s):
    told: list[RequestRecord] = []

    async def scenario() -> None:
        admission = opened(timeout_s=own_s, observers=[told.append], max_requests=1)
        for _ in range(2):
            with pytest.raises(Late, match=r"^there was no answer within 0\.002 s$"):
                await ask(admission, kind, hang, timeout_s=asked_s)
        assert [record.outcome for record in told] == ["late", "late"]
        assert [record.deadline_s for record in told] == [record.started_s + 0.002 for record in told]

    play(scenario)


@pytest.mark.parametrize("asked_s", [0.0, -1.0])
def test_a_caller_that_no_longer_waits_is_not_worked_for(asked_s):
    async def scenario() -> None:
        with pytest.raises(Late):
            await ask(opened(), work=hang, timeout_s=asked_s)

    play(scenario)


def test_a_stream_lasts_as_long_as_it_likes():
    async def scenario() -> None:
        record = await ask(opened(timeout_s=0.001), "stream", lambda: asyncio.sleep(0.005), timeout_s=0.001)
        assert (record.outcome, record.deadline_s) == ("ok", float("inf"))

    play(scenario)


def test_draining_waits_for_all_requests_and_streams():
    async def scenario() -> None:
        admission = opened()
        leave = asyncio.Event()
        assert await admission.drained(0.0)
        tasks = [asyncio.create_task(ask(admission, kind, leave.wait)) for kind in ("request", "stream")]
        await until(lambda: admission.requests == 2)
        assert not await admission.drained(0.001)
        draining = asyncio.create_task(admission.drained(30.0))
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        for _ in range(10):
            await asyncio.sleep(0)
        assert not draining.done()
        leave.set()
        assert await draining
        assert admission.requests == 0

    play(scenario)
