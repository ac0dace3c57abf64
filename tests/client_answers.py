"""What the stand-ins of `client_servers` answer, and what they remember of being asked.

What a picture's bytes say decides the answer: the reason of an error is answered with that error, `slow` never in time,
anything else with poses, or with the map or the picture that is asked for.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from model.skeleton import COCO
from pictures import SIZE
from service.errors import ALL_ERRORS, Overloaded, PoseServiceError
from service.poses import AttentionShape, DependencyMap, ModelInfo, Pose, PoseResult

RETRY_AFTER_S = 3
SOME_PNG = b"\x89PNG\r\n\x1a\n drawn"
MODEL = ModelInfo(
    variant="c3a1-4",
    label="C3A1(4)",
    parameters=17,
    input_hw=(256, 192),
    checkpoint_sha256="0" * 64,
    runtime="torch",
    device="cpu",
    precision="float32",
    attention={"mhsa": AttentionShape(layers=3, heads=4), "encoder": AttentionShape(layers=4, heads=8)},
    keypoint_names=COCO.names,
    skeleton=COCO.limbs,
)


@dataclass
class Asked:
    """What a stand-in was asked."""

    image: bytes = b""
    boxes: list[tuple[float, ...]] | None = None
    flip_test: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    message: Any = None  # over gRPC, of a dependency map
    path: str = ""
    time_left_s: float | None = None


@dataclass
class StandIn:
    """A running stand-in: where it is, what it was asked, and how the tests change what it says."""

    address: str = ""
    ready: bool = True
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    call_ended: threading.Event = field(default_factory=threading.Event)
    hold_until: int = 0  # frames of a stream that are read before the first is answered
    frames_answered: int | None = None  # before a stream is ended early
    says: Any = None  # over HTTP (status, media type, body), over gRPC (code, details) or a map, for every request

    def answer(self, asked: Asked) -> PoseResult:
        self.asked.append(asked)
        if asked.image == b"slow":
            self.released.wait(timeout=30)
        kinds: dict[str, type[PoseServiceError]] = {kind.reason: kind for kind in ALL_ERRORS}
        if kind := kinds.get(asked.image.decode(errors="ignore")):
            message = f"the picture is {kind.reason}"
            raise Overloaded(message, retry_after_s=RETRY_AFTER_S) if kind is Overloaded else kind(message)
        return some_poses(asked.boxes)


def some_poses(boxes: list[tuple[float, ...]] | None = None) -> PoseResult:
    """In each box, and without any in the whole of `pictures.square`, keypoints that go from corner to corner."""
    poses = []
    for x, y, width, height in boxes or [(0.0, 0.0, *map(float, SIZE))]:
        parts = [(number + 0.5) / len(COCO) for number in range(len(COCO))]
        keypoints = tuple((x + part * width, y + (part * 5 % 1) * height, 0.9) for part in parts)
        poses.append(Pose(box_xywh=(x, y, width, height), score=0.875, keypoints=keypoints))
    return PoseResult(width=SIZE[0], height=SIZE[1], poses=tuple(poses))


def some_map() -> DependencyMap:
    """Of the left wrist, which looked at three tokens; each is 15 x 20 pixels of the picture."""
    attention = ((0.0, 0.0, 0.5, 0.0), (0.0, 0.25, 0.0, 0.0), (0.0,) * 4, (0.125, 0.0, 0.0, 0.125))
    return DependencyMap(
        level="encoder",
        layer=3,
        head=None,
        mode="dependency",
        keypoint="left_wrist",
        query=(1, 2),
        attention=attention,
        point=(40.125, 20.25, 0.875),
        region_xywh=(0.0, 0.0, 60.0, 80.0),
        width=SIZE[0],
        height=SIZE[1],
    )
