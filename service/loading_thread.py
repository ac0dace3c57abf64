"""The thread in which a network is loaded while another serves. Knows nothing of networks but that they take long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from service.network import Network

THREAD = "reload"


def is_loading() -> bool:
    """Whether a network is being loaded in this process, in a thread that cannot be ended."""
    return any(thread.name == THREAD for thread in threading.enumerate())


async def in_thread(load: Callable[[], Network]) -> Network:
    """What `load` returns or raises, in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    promise: asyncio.Future[Network] = loop.create_future()

    def tell(network: Network | None, error: Exception | None) -> None:
        if promise.done():
            return
        if network is not None:
            promise.set_result(network)
        else:
            promise.set_exception(error or RuntimeError("nothing was loaded"))

    def work() -> None:
        found: tuple[Network | None, Exception | None]
        try:
            found = load(), None
        except Exception as error:
            found = None, error
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(tell, *found)

    threading.Thread(target=work, name=THREAD, daemon=True).start()
    return await promise
