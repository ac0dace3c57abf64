"""Who comes in, how many at a time, and for how long: what holds for a request before and around its work.

Every request passes here once, whatever its protocol, and its record is told to the observers when it is over. Knows
nothing of pictures or of the network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

from service.api_keys import ApiKeys
from service.errors import Late, Overloaded, PoseServiceError, Unavailable
from service.record import DEFECT, DEPENDENCY, GONE, Caller, CallerGone, RequestRecord
from service.telling import tell

Observer = Callable[[RequestRecord], None]


class Admission:
    """The door of the service; closed until it is opened.

    Args:
        max_requests: the most requests at a time, counted from before their bodies are read; a stream is one.
        max_dependencies: the most of them that are at work on dependency maps, which cost more than poses.
        max_held_bytes: the most bytes of pictures that requests hold at a time.
        timeout_s: the longest that a request may take, from its head to its answer; a caller may ask for less.
        api_keys: who may ask; None for everybody. May be replaced at any time.
        observers: each is given the record of every request when it is over.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_dependencies: int,
        max_held_bytes: int,
        timeout_s: float,
        api_keys: ApiKeys | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.requests = 0  # admitted and unanswered
        self.closed_because: str | None = "starting"  # None: open
        self.dependencies = 0  # of them at work on maps
        self._max_requests = max_requests
        self._max_dependencies = max_dependencies
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._timeout_s = timeout_s
        self.api_keys = api_keys
        self._observers = observers
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def request(self, caller: Caller) -> AsyncIterator[RequestRecord]:
        """A place for one request, to be taken before its body is read, with a deadline over all that follows.

        Raises Unauthenticated, Unavailable, Overloaded; Late when the time is over.
        """
        with self._recorded(caller) as record, self._place(caller):
            async with self._deadline(record):
                yield record

    @contextmanager
    def stream(self, caller: Caller) -> Iterator[RequestRecord]:
        """A place for one stream, however long it lasts. Raises Unauthenticated, Unavailable, Overloaded."""
        with self._recorded(caller) as record, self._place(caller):
            yield record

    @asynccontextmanager
    async def frame(self, caller: Caller) -> AsyncIterator[RequestRecord]:
        """One frame of a stream that has its place: a deadline over all that follows. Raises Late."""
        with self._recorded(caller) as record:
            async with self._deadline(record):
                yield record

    def authenticate(self, caller: Caller) -> None:
        """Raises Unauthenticated unless the caller may ask."""
        if self.api_keys is not None:
            self.api_keys.check(caller.api_key)

    def hold(self, record: RequestRecord, more_bytes: int) -> None:
        """Account for bytes of a picture that arrived, until the request is over. Raises Overloaded if they are many.

        The limits on requests and on one picture would together allow for more memory than a machine has.
        """
        if self._held_bytes + more_bytes > self._max_held_bytes:
            raise Overloaded(
                f"pictures of {self._held_bytes} bytes are being worked on; allowed: at most {self._max_held_bytes} "
                "at a time. Try again later"
            )
        self._held_bytes += more_bytes
        record.image_bytes += more_bytes

    @contextmanager
    def dependency(self) -> Iterator[None]:
        """A place for the work of a dependency map, in a request that was admitted. Raises Overloaded.

        To be taken when the body is there: who sends slowly holds up nobody.
        """
        self._refuse_more_dependencies()
        self.dependencies += 1
        try:
            yield
        finally:
            self.dependencies -= 1

    def _refuse_more_dependencies(self) -> None:
        if self.dependencies >= self._max_dependencies:
            raise Overloaded(
                f"{self.dependencies} dependency maps are being worked on; allowed: at most {self._max_dependencies}. "
                "Try again later"
            )

    async def drained(self, timeout_s: float) -> bool:
        """Wait until every request that was admitted is answered. False if they took longer."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        return self._idle.is_set()  # even if there was no time to wait at all

    @contextmanager
    def _recorded(self, caller: Caller) -> Iterator[RequestRecord]:
        """Note how the request ends, give back what it held, and tell the observers."""
        record = RequestRecord(caller=caller)
        try:
            yield record
        except PoseServiceError as error:
            record.outcome = error.reason
            raise
        except BaseException as error:
            record.outcome = DEFECT if isinstance(error, Exception) and not isinstance(error, CallerGone) else GONE
            raise
        finally:
            record.finished_s = time.monotonic()
            self._held_bytes -= record.image_bytes
            for observe in self._observers:
                tell(partial(observe, record))

    @contextmanager
    def _place(self, caller: Caller) -> Iterator[None]:
        self.authenticate(caller)
        if self.closed_because is not None:
            raise Unavailable(f"not ready: {self.closed_because}")
        if self.requests >= self._max_requests:
            raise Overloaded(
                f"{self.requests} requests are being worked on; allowed: at most {self._max_requests}. Try again later"
            )
        if caller.method == DEPENDENCY:
            self._refuse_more_dependencies()  # rather now than when the picture has been sent
        self.requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self._idle.set()

    @asynccontextmanager
    async def _deadline(self, record: RequestRecord) -> AsyncIterator[None]:
        asked_s = record.caller.timeout_s
        timeout_s = self._timeout_s if asked_s is None else min(asked_s, self._timeout_s)
        record.deadline_s = record.started_s + timeout_s
        try:
            async with asyncio.timeout(timeout_s) as timer:
                yield
        except TimeoutError as error:
            if timer.expired():
                raise Late(f"there was no answer within {timeout_s:g} s") from error
            raise
