"""Poses for a person to read and to look at. Knows nothing of how they were found."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from model.drawing import draw_poses
from model.skeleton import KEYPOINT_NAMES
from service.images import ImageLimits, decode_image
from service.poses import Pose, PoseResult

# The picture is the caller's own, and the service took it: whatever its limits are, they were kept.
_ANY_SIZE = ImageLimits(max_bytes=2**40, max_pixels=2**40, max_side=2**20)


def poses_table(name: str, result: PoseResult) -> str:
    """Lines of text: the picture's name and size, and each person's keypoints in pixels of the upright picture."""
    persons = f"{len(result.poses)} person" + ("s" if len(result.poses) != 1 else "")
    lines = [f"{name}: {result.width} x {result.height} pixels, {persons}"]
    for number, pose in enumerate(result.poses, start=1):
        lines += ["", *_person(number, pose)]
    return "\n".join(lines)


def poses_png(image: bytes, result: PoseResult) -> bytes:
    """A PNG of the upright picture with a skeleton for each person; small pictures are enlarged.

    Raises NotAnImage for a picture that cannot be read.
    """
    poses = [np.array(pose.keypoints) for pose in result.poses]
    drawn = draw_poses(decode_image(image, _ANY_SIZE), poses)
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG")
    return file.getvalue()


def _person(number: int, pose: Pose) -> list[str]:
    box = " ".join(f"{value:g}" for value in pose.box_xywh)
    width = max(map(len, KEYPOINT_NAMES))
    return [
        f"person {number}, score {pose.score:.3f}, box {box}",
        f"  {'keypoint':{width}}  {'x':>9}  {'y':>9}  confidence",
        *(
            f"  {name:{width}}  {x:9.2f}  {y:9.2f}  {score:10.3f}"
            for name, (x, y, score) in zip(KEYPOINT_NAMES, pose.keypoints, strict=True)
        ),
    ]
