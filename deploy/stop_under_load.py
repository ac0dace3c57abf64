"""Clients that keep a service busy while it is told to stop, and remember what became of each request.

Knows nothing of how it runs or is told; `try_container.py` compares the outcomes with the service's own log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.client import connect
from service.errors import PoseServiceError, Unavailable

BEFORE_S = 4.0  # of load before the service is told
PAUSE_S = 0.05  # after a refusal
GIVE_UP_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """When a request began and ended (`time.monotonic`), and "ok" or the reason that the client saw."""

    began_s: float
    ended_s: float
    said: str


def stop_under_load(
    addresses: Sequence[str], picture: bytes, *, clients: int, tell: Callable[[], object]
) -> tuple[dict[str, Outcome], float]:
    """Load the service with some clients at each address, tell it to stop, and go on until nobody is answered.

    Returns:
        The outcome of each request by its id, which begins with the scheme of its address; and when it was told.
    """
    outcomes: dict[str, Outcome] = {}
    told = threading.Event()

    def keep_asking(address: str, number: int) -> None:
        until_s = time.monotonic() + GIVE_UP_S
        with connect(address) as client:
            refused = count = 0
            while refused < 5 and time.monotonic() < until_s:
                name = f"{address.partition(':')[0]}-{number}-{count}"
                count += 1
                began_s, said = time.monotonic(), "ok"
                try:
                    client.estimate(picture, request_id=name)
                except PoseServiceError as error:
                    said = error.reason
                    refused += told.is_set() and isinstance(error, Unavailable)
                    time.sleep(PAUSE_S)
                outcomes[name] = Outcome(began_s, time.monotonic(), said)

    with ThreadPoolExecutor(clients * len(addresses)) as pool:
        asking = [pool.submit(keep_asking, address, number) for address in addresses for number in range(clients)]
        time.sleep(BEFORE_S)
        told_s = time.monotonic()
        tell()
        told.set()
    for one in asking:
        one.result()
    return outcomes, told_s
