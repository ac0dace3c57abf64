"""Poses, and what they depend on, for a person to read and to look at. Knows nothing of how they were found."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from model.drawing import draw_poses
from model.skeleton import Skeleton
from service.client_errors import UnexpectedAnswer
from service.images import ImageLimits, decode_image
from service.poses import DependencyMap, ModelInfo, Pose, PoseResult

PLACES = 5  # that a summary of a map names

# The picture is the caller's own, and the service took it: whatever its limits are, they were kept.
_ANY_SIZE = ImageLimits(max_bytes=2**40, max_pixels=2**40, max_side=2**20)


def poses_table(name: str, result: PoseResult, model: ModelInfo) -> str:
    """Lines of text: the picture's name and size, and each person's keypoints in pixels of the upright picture.

    Raises UnexpectedAnswer if they are not the keypoints of this model.
    """
    _check(result, model)
    persons = f"{len(result.poses)} person" + ("s" if len(result.poses) != 1 else "")
    lines = [f"{name}: {result.width} x {result.height} pixels, {persons}"]
    for number, pose in enumerate(result.poses, start=1):
        lines += ["", *_person(number, pose, model)]
    return "\n".join(lines)


def poses_png(image: bytes, result: PoseResult, model: ModelInfo) -> bytes:
    """A PNG of the upright picture with a skeleton for each person; small pictures are enlarged.

    Raises NotAnImage for a picture that cannot be read, UnexpectedAnswer for keypoints that are not of this model.
    """
    _check(result, model)
    try:
        skeleton = Skeleton.to_draw(model.keypoint_names, model.skeleton)
    except ValueError as error:
        raise UnexpectedAnswer(f"the service has a skeleton that cannot be drawn: {error}") from error
    poses = [np.array(pose.keypoints) for pose in result.poses]
    drawn = draw_poses(decode_image(image, _ANY_SIZE), poses, skeleton)
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "PNG")
    return file.getvalue()


def map_summary(name: str, found: DependencyMap) -> str:
    """Lines of text: which map it is, where the keypoint was placed, and the places with most of the attention."""
    attention = np.array(found.attention)
    x, y, score = found.point
    head = "mean of heads" if found.head is None else f"head {found.head}"
    of_what = f"{found.level} layer {found.layer}, {head}, {found.mode}"
    direction = "looked most at" if found.mode == "dependency" else "was looked at most from"
    left, top, width, height = found.region_xywh
    lines = [
        f"{name}: {found.keypoint} at {x:.1f}, {y:.1f}, confidence {score:.3f}",
        f"{of_what}; its token {direction}",
        f"  {'x':>9}  {'y':>9}  attention",
    ]
    for index in np.argsort(attention, axis=None)[::-1][:PLACES]:
        row, column = np.unravel_index(index, attention.shape)
        center_x = left - 0.5 + (column + 0.5) * width / attention.shape[1]
        center_y = top - 0.5 + (row + 0.5) * height / attention.shape[0]
        lines.append(f"  {center_x:9.1f}  {center_y:9.1f}  {100 * attention[row, column]:7.2f} %")
    return "\n".join(lines)


def _check(result: PoseResult, model: ModelInfo) -> None:
    for pose in result.poses:
        if len(pose.keypoints) != len(model.keypoint_names):
            raise UnexpectedAnswer(
                f"the service answered with {len(pose.keypoints)} keypoints, and named {len(model.keypoint_names)}"
            )


def _person(number: int, pose: Pose, model: ModelInfo) -> list[str]:
    box = " ".join(f"{value:g}" for value in pose.box_xywh)
    width = max(8, *map(len, model.keypoint_names))
    return [
        f"person {number}, score {pose.score:.3f}, box {box}",
        f"  {'keypoint':{width}}  {'x':>9}  {'y':>9}  confidence",
        *(
            f"  {name:{width}}  {x:9.2f}  {y:9.2f}  {score:10.3f}"
            for name, (x, y, score) in zip(model.keypoint_names, pose.keypoints, strict=True)
        ),
    ]
