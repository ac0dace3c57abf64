"""The frames of one stream -> poses with identities: whom to look at next, and who is who.

Frames are worked on side by side where they can be: those whose boxes the client sent; of others one is decoded while
the one before it runs, because where the persons of a frame are is known from the frame before. Knows nothing of gRPC,
or of how persons are followed (`service.tracking`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from model.detection import Detections
from service.core import Chosen, PoseService
from service.errors import InvalidParameter
from service.in_turn import InTurn, Turn
from service.one_euro import SmoothingSettings
from service.pictures import OpenPicture
from service.poses import Box, Pose, PoseRequest, PoseResult
from service.posing import followed_pose, seen_pose, unseen
from service.record import RequestRecord
from service.streaming import StreamSettings
from service.tracking import Tracker
from service.tracking_values import Tracked

FRAMES_AHEAD = 2  # of those without boxes: one runs, the next is decoded


@dataclass(frozen=True, kw_only=True)
class FollowedFrame:
    """One frame of a stream. `captured_s`: when it was taken, by a clock that goes forward."""

    request: PoseRequest
    captured_s: float


class Following:
    """The persons of one stream. Lives as long as the stream.

    Args:
        service: estimates their poses.
        tracker: knows who they are; used for this stream only.
    """

    def __init__(self, service: PoseService, tracker: Tracker) -> None:
        self._service = service
        self._tracker = tracker
        self._order = InTurn()
        self._ahead = asyncio.Semaphore(FRAMES_AHEAD)

    async def answer(self, frame: FollowedFrame, record: RequestRecord) -> PoseResult:
        """The poses of a frame, with track ids. To be started in the order of the frames.

        A frame that fails changes nothing about who is followed. Raises the errors of `service.errors`.
        """
        request, time_s = frame.request, frame.captured_s
        with self._order.turn() as turn:
            if request.boxes_xywh is not None or self._service.detector is None:
                result = await self._service.estimate(request, record, patient=True)
                await turn.comes()
                return _followed(result, self._tracker.identify(time_s, list(map(seen_pose, result.poses))))
            async with self._ahead:
                asked: list[Box] = []
                choose = partial(self._choose, turn, time_s, record, asked)
                result = await self._service.estimate_chosen(request, record, choose, patient=True)
                keypoints = len(self._service.network.config.skeleton)
                found = _in_boxes(asked, result.poses)
                seen = [
                    unseen(box, keypoints) if pose is None else seen_pose(pose)
                    for box, pose in zip(asked, found, strict=True)
                ]
                tracked = self._tracker.update(time_s, seen)
                who = [each for each, pose in zip(tracked, found, strict=True) if pose is not None]
                followed = _followed(result, who)
                record.persons = len(followed.poses)
                return replace(followed, poses=tuple(sorted(followed.poses, key=lambda pose: pose.track_id)))

    async def _choose(
        self, turn: Turn, time_s: float, record: RequestRecord, asked: list[Box], picture: OpenPicture
    ) -> Chosen:
        """The boxes to look at, noted in `asked`, when it is this frame's turn."""
        await turn.comes()
        height, width = picture.image.shape[:2]
        detections: Detections | None = None
        if self._tracker.detection_due():
            detections = await self._service.detect(picture, record)
        asked[:] = self._tracker.boxes(time_s, (height, width), detections)
        return Chosen(asked, detected=detections is not None)


def _in_boxes(asked: Sequence[Box], poses: Sequence[Pose]) -> list[Pose | None]:
    """The pose of each box; None where the box was not looked at, of which the others keep their order."""
    left = deque(poses)
    return [left.popleft() if left and left[0].box_xywh == box else None for box in asked]


def _followed(result: PoseResult, tracked: Sequence[Tracked]) -> PoseResult:
    """The same poses with their track ids, smoothed if they were, without those that are not to be told."""
    poses = (followed_pose(pose, who) for pose, who in zip(result.poses, tracked, strict=True) if who.told)
    return replace(result, poses=tuple(poses))


def follow(service: PoseService, settings: StreamSettings) -> Following | None:
    """What follows the persons of a stream; None where each frame is to be answered by itself.

    Raises InvalidParameter for numbers that a tracker cannot take.
    """
    if settings.plain:
        return None
    try:
        tracker_settings = service.tracking
        if settings.detect_every is not None:
            tracker_settings = replace(tracker_settings, detect_every=settings.detect_every)
        smoothing = None if settings.smoothing is None else SmoothingSettings(**settings.smoothing)
    except ValueError as error:
        raise InvalidParameter(f"options: {error}") from error
    return Following(service, Tracker(service.network.config.skeleton, tracker_settings, smoothing))
