"""Whether the service can answer, and when it may begin to. Knows nothing of requests."""

from __future__ import annotations

import asyncio

from service.admission import Admission
from service.detecting import DetectorQueue
from service.engine import Engine
from service.errors import EngineFailed, Overloaded

PROBE_TIMEOUT_S = 5.0  # how long a health check waits for the network
WARMING_UP = "the network is warming up"


class Readiness:
    """Opens the admission when network and detector have run once, and says when they no longer answer."""

    def __init__(self, engine: Engine, admission: Admission, detector: DetectorQueue | None) -> None:
        self._engine = engine
        self._admission = admission
        self._detector = detector
        self._probe: asyncio.Task[bool] | None = None
        admission.closed_because = WARMING_UP

    async def why_not_ready(self) -> str | None:
        """None when pictures are taken and the network answers; otherwise the reason.

        After a failure the network is tried again here, so that a health check notices when it has recovered.
        """
        if self._admission.closed_because is not None:
            return self._admission.closed_because
        if self._engine.stalled:
            return "the network has been at one batch for too long; see the log"
        if self._detector is not None and self._detector.stalled:
            return "the detector has been at one batch for too long; see the log"
        if self._engine.failures > 0 and not await self._network_answers(PROBE_TIMEOUT_S):
            return f"the network failed the last {self._engine.failures} times; see the log"
        return self._admission.closed_because  # which may have come meanwhile

    async def warm_up(self) -> None:
        """Run network and detector once, then open the admission. It stays closed, and says why, if one fails."""
        for _ in range(self._engine.lanes):  # one that fails does not keep the others from serving
            if answers := await self._network_answers(None):
                break
        failed = None if answers else "the network failed its first run; see the log"
        if self._detector is not None and not await self._detector.answers():
            failed = "the detector failed its first run; see the log"
        if self._admission.closed_because == WARMING_UP:  # and not stopped meanwhile
            self._admission.closed_because = failed

    async def _network_answers(self, timeout_s: float | None) -> bool:
        """Whether the network can be run. However many ask at a time, it is tried once."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._try_network())
        try:
            return await asyncio.wait_for(asyncio.shield(self._probe), timeout_s)
        except TimeoutError:
            return False

    async def _try_network(self) -> bool:
        network = self._engine.network
        try:
            async with self._engine.room(1, network=network) as room:
                await room.run([network.blank()])
        except EngineFailed:
            return False
        except Overloaded:
            pass  # it has work; how that ends will tell
        return True
