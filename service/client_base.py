"""What a client can be asked, whatever the protocol: its two faces, with threads and with asyncio.

Knows nothing of HTTP or gRPC.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, Unpack

from service.client_frames import Frame, FrameAnswer
from service.client_options import StreamOptions
from service.client_questions import MapOptions, PictureOptions, map_of, map_question, picture_question, png_of
from service.poses import Box, DependencyMap, DependencyRequest, ModelInfo, PoseResult


class PoseClient(ABC):
    """A connection to a pose service, to be closed or used in a `with` block. Threads may share one.

    Every call raises the errors of `service.errors`, as the service does; `Unavailable` also where nothing answers at
    the address, `Late` also where the answer does not come in time, and `UnexpectedAnswer` where something answers that
    is no pose service. Nothing is tried a second time.
    """

    @abstractmethod
    def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        """The keypoints of each person in one picture.

        Args:
            image: the bytes of a JPEG, PNG or WebP file, or its path.
            boxes_xywh: one for each person, in pixels of the upright picture; None: those that the service's
                detector finds; without one the whole picture is one person.
            flip_test: also look at the mirrored picture and average; a little more precise, twice the work.
            timeout_s: how long the answer may take; the service is told. None: as connected.
            request_id: for the log of the service.

        Returns:
            Poses in the order of the boxes, in pixels of the upright picture: (0, 0) is the centre of its top-left one.

        Raises the errors of `service.errors`, and OSError for a path that cannot be read.
        """

    def dependency(
        self,
        image: bytes | Path,
        keypoint: str | int,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        **how: Unpack[MapOptions],
    ) -> DependencyMap:
        """Which parts of the picture the network looked at when it placed one keypoint of one person.

        Args:
            image: the bytes of a JPEG, PNG or WebP file, or its path.
            keypoint: its name or index; see `model` for those there are.
            timeout_s, request_id: as `estimate` has them.
            how: which person, level, layer, head and direction; see `MapOptions`.

        Raises the errors of `service.errors`, and OSError for a path that cannot be read.
        """
        return map_of(self.explain(map_question(image, keypoint, how), timeout_s=timeout_s, request_id=request_id))

    def dependency_png(
        self,
        image: bytes | Path,
        keypoint: str | int,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        **how: Unpack[PictureOptions],
    ) -> bytes:
        """The same as a PNG: the crop under its coloured map. `keypoint="all"`: the paper's figure of all keypoints.

        Args and errors as `dependency`; `how`: see `PictureOptions`.
        """
        return png_of(self.explain(picture_question(image, keypoint, how), timeout_s=timeout_s, request_id=request_id))

    @abstractmethod
    def explain(
        self, request: DependencyRequest, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> DependencyMap | bytes:
        """The map, or the PNG, that a request asks for: what `dependency` and `dependency_png` do their work with."""

    @abstractmethod
    def stream(
        self,
        frames: Iterable[Frame],
        *,
        options: StreamOptions | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Iterator[FrameAnswer]:
        """The answers to frames, in their order, one for each; work begins when the first answer is asked for.

        Over gRPC, frames are taken by another thread and sent while earlier ones are worked on, at most MAX_AHEAD
        before their answers have been taken; the service is told no deadline but that of the whole stream. Over HTTP,
        each frame is sent when the answer to the one before has been taken, as a request with the client's timeout.

        A live stream (`options.pace`) reads `frames` at once, sends the newest, and answers those that were not
        dropped; each answer tells which were dropped since the one before. The last frame is always answered.

        Persons are followed over gRPC, unless the options say `plain`. HTTP offers none of it: each of its frames is a
        request of its own; any options but `plain`, and frames with `raw`, raise InvalidParameter there.

        A frame that cannot be answered has the error in its answer. What concerns all frames is raised and ends the
        stream: Unauthenticated, Unavailable, UnexpectedAnswer, Late for `timeout_s`, and whatever `frames` raises.

        Args:
            frames: taken one after the other.
            options: None: as the service has it; over gRPC persons are followed, and every frame is answered.
            timeout_s: how long the whole stream may take; None: without end.
            request_id: for the log of the service.
        """

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the service takes pictures. False also where nothing answers, or not in time."""

    @abstractmethod
    def model(self) -> ModelInfo:
        """What is being served: the network, and the names of its keypoints in the order of every pose."""

    @abstractmethod
    def close(self) -> None:
        """End the connection, and with it all calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncPoseClient(ABC):
    """`PoseClient` for asyncio: the same calls, the same errors. To be used in the event loop that it was made in."""

    @abstractmethod
    async def estimate(
        self,
        image: bytes | Path,
        *,
        boxes_xywh: Sequence[Box] | None = None,
        flip_test: bool = False,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> PoseResult:
        """See `PoseClient.estimate`."""

    async def dependency(
        self,
        image: bytes | Path,
        keypoint: str | int,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        **how: Unpack[MapOptions],
    ) -> DependencyMap:
        """See `PoseClient.dependency`."""
        question = await asyncio.to_thread(map_question, image, keypoint, how)
        return map_of(await self.explain(question, timeout_s=timeout_s, request_id=request_id))

    async def dependency_png(
        self,
        image: bytes | Path,
        keypoint: str | int,
        *,
        timeout_s: float | None = None,
        request_id: str | None = None,
        **how: Unpack[PictureOptions],
    ) -> bytes:
        """See `PoseClient.dependency_png`."""
        question = await asyncio.to_thread(picture_question, image, keypoint, how)
        return png_of(await self.explain(question, timeout_s=timeout_s, request_id=request_id))

    @abstractmethod
    async def explain(
        self, request: DependencyRequest, *, timeout_s: float | None = None, request_id: str | None = None
    ) -> DependencyMap | bytes:
        """See `PoseClient.explain`."""

    @abstractmethod
    def stream(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        *,
        options: StreamOptions | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> AsyncIterator[FrameAnswer]:
        """See `PoseClient.stream`. Frames that are not asynchronous are taken in another thread."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """See `PoseClient.is_ready`."""

    @abstractmethod
    async def model(self) -> ModelInfo:
        """See `PoseClient.model`."""

    @abstractmethod
    async def aclose(self) -> None:
        """End the connection, and with it all calls."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
