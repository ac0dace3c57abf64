"""Another checkpoint takes over while the service runs, or it does not and nothing has changed.

    load, check, try (in a thread of its own; the network that serves goes on) -> it serves, and the one before is kept
                      `-> fails: said to the log, the observer and whoever asked; the one that serves goes on

Knows nothing of signals, or of the protocol in which an operator asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.core import PoseService
from service.loading_thread import in_thread
from service.network import Network
from service.telling import tell
from service.work import Work

log = logging.getLogger(__name__)

Load = Callable[[Path], Network]


class ReloadRefused(Exception):
    """Nothing was tried. The message says why, for an operator."""


class NotAllowed(ReloadRefused):
    """The checkpoint that was asked for is not one that may be."""


class ReloadFailed(Exception):
    """A checkpoint could not be served, and the one before goes on. The message says why, for an operator."""


class ReloadObserver:
    """Is told what takes over. Does nothing itself."""

    def on_reloaded(self, network: Network) -> None:
        """It was loaded, and serves."""

    def on_rolled_back(self, network: Network) -> None:
        """It served before, and serves again."""

    def on_reload_failed(self) -> None:
        """What was to be loaded cannot be served."""


@dataclass(frozen=True, kw_only=True)
class LastReload:
    """How the last one ended: `outcome` is "ok", "failed" or "rolled_back", `at_s` of the wall clock (Unix time)."""

    outcome: str
    asked_by: str
    detail: str
    at_s: float


class Reloads:
    """What takes over, one at a time. On the event loop only.

    Args:
        service: whose network it is.
        load: a checkpoint's network, loaded and checked; called in a thread of its own. Raises ValueError, whose
            message is for operators.
        checkpoint: what is loaded if nothing else is named.
        folder: where checkpoints must lie that an operator names; None: none may be named.
        observer: is told how it went, on the event loop.
    """

    def __init__(
        self,
        service: PoseService,
        load: Load,
        *,
        checkpoint: Path,
        folder: Path | None = None,
        observer: ReloadObserver | None = None,
    ) -> None:
        self._service = service
        self._load = load
        self._checkpoint = checkpoint
        self._folder = folder
        self._observer = observer or ReloadObserver()
        self._at_work: set[asyncio.Task[Network]] = set()
        self.before: Network | None = None  # what a rollback brings back; of another checkpoint than what serves
        self.last: LastReload | None = None

    @property
    def serving(self) -> Network:
        """What serves."""
        return self._service.network

    @property
    def is_loading(self) -> bool:
        """Whether one is being loaded."""
        return bool(self._at_work)

    async def reload(self, name: str | None = None, *, asked_by: str) -> Network:
        """Load a checkpoint, and have it serve. Goes on when whoever waits for it is cancelled.

        Args:
            name: of a checkpoint in the folder; None: the one of the start, read again.
            asked_by: for the log.

        Raises ReloadRefused, ReloadFailed.
        """
        self._refuse_if_busy()
        path = self._checkpoint if name is None else self._allowed(name)
        working = asyncio.create_task(self._reload(path, asked_by))
        self._at_work.add(working)
        working.add_done_callback(self._at_work.discard)
        return await asyncio.shield(working)

    def roll_back(self, *, asked_by: str) -> Network:
        """Have the network serve again that did before; it is still in memory. Once more brings the other back.

        Raises ReloadRefused.
        """
        self._refuse_if_busy()
        if self.before is None:
            raise ReloadRefused("there is no network to go back to; allowed: after another one has taken over")
        network = self.before
        replaced = self._take_over(network)
        self._note("rolled_back", asked_by, f"{_name(network)} serves again, instead of {_name(replaced)}")
        tell(lambda: self._observer.on_rolled_back(network))
        return network

    async def follow(self, asked: asyncio.Event, *, asked_by: str) -> None:
        """Read the checkpoint of the start again whenever the event is set, until cancelled.

        What is asked while one is being loaded is done after it, for the file may have changed since.
        """
        while True:
            await asked.wait()
            asked.clear()
            while self._at_work:
                await asyncio.wait(self._at_work)
            with suppress(ReloadRefused, ReloadFailed):  # which have been logged, or the service is about to end
                await self.reload(asked_by=asked_by)

    def _refuse_if_busy(self) -> None:
        if self._service.stopping.is_set():
            raise ReloadRefused("the service is shutting down")
        if self.is_loading:
            raise ReloadRefused("a network is being loaded; allowed: one at a time. Try again when it is done")

    def _allowed(self, name: str) -> Path:
        """The checkpoint of a name. Raises NotAllowed."""
        if self._folder is None:
            raise NotAllowed(f"checkpoint is {name!r}; allowed: none, because there is no --checkpoint-dir")
        folder = self._folder.resolve()
        path = folder / name
        try:
            inside = path.resolve().is_relative_to(folder)
        except (OSError, ValueError, RuntimeError):  # a name that no file can have; links in a circle
            inside = False
        if not inside or path.suffix != ".safetensors":
            raise NotAllowed(f"checkpoint is {name!r}; allowed: NAME.safetensors in {self._folder}")
        return path

    async def _reload(self, path: Path, asked_by: str) -> Network:
        log.info("loading %s, asked by %s; %s goes on meanwhile", path, asked_by, _name(self.serving))
        began_s = time.monotonic()
        try:
            network = await in_thread(lambda: _tried(self._load(path)))
            self._check_keypoints(path, network)
            if self._service.stopping.is_set():
                raise ReloadRefused("the service is shutting down")
            replaced = self._take_over(network)
        except ReloadRefused:
            raise
        except Exception as error:
            raise self._failed(path, error, asked_by) from error
        seconds = time.monotonic() - began_s
        self._note("ok", asked_by, f"{_name(network)} serves, instead of {_name(replaced)}, after {seconds:.1f} s")
        tell(lambda: self._observer.on_reloaded(network))
        return network

    def _check_keypoints(self, path: Path, network: Network) -> None:
        """Raises ValueError for other keypoints than those that serve: clients know them by their number."""
        names, serving = network.info.keypoint_names, self.serving.info.keypoint_names
        if names != serving:
            raise ValueError(
                f"{path} has the keypoints {', '.join(names)}; allowed: {', '.join(serving)}, or a start with this one"
            )

    def _take_over(self, network: Network) -> Network:
        """Have it serve from the next request on. Returns what it replaces, which is kept unless it is of the same
        checkpoint: then what was before both is worth more.
        """
        replaced = self.serving
        self._service.network = network
        if replaced.info.checkpoint_sha256 != network.info.checkpoint_sha256:
            self.before = replaced
        return replaced

    def _failed(self, path: Path, error: Exception, asked_by: str) -> ReloadFailed:
        goes_on = f"{_name(self.serving)} goes on"
        if isinstance(error, ValueError):  # written for operators
            detail = f"{error}; {goes_on}"
        else:
            detail = f"{path} cannot be served: {type(error).__name__}; {goes_on}, and the log has the details"
            log.error("%s could not be loaded", path, exc_info=error)
        self._note("failed", asked_by, detail, level=logging.ERROR)
        tell(self._observer.on_reload_failed)
        return ReloadFailed(detail)

    def _note(self, outcome: str, asked_by: str, detail: str, *, level: int = logging.INFO) -> None:
        self.last = LastReload(outcome=outcome, asked_by=asked_by, detail=detail, at_s=time.time())
        log.log(level, "reload asked by %s: %s: %s", asked_by, outcome, detail)


def _tried(network: Network) -> Network:
    """The same, after a blank crop has gone through each of its estimators. Raises what they raise."""
    for estimator in network.estimators:
        Work().do(estimator, [network.blank()])
    return network


def _name(network: Network) -> str:
    """For an operator."""
    return f"{network.info.label} {network.short_sha256} ({network.source})"
