"""What is wrong with annotations, record by record: `training.check_data` reports it.

Reads records alone. Knows nothing of the command line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from model.geometry import MIN_SIZE
from training.keypoint_sets import KeypointSet
from training.oks import NEEDED, is_area

Severity = Literal["error", "warning", "note"]

EXAMPLES = 5
BEYOND = 2.0  # pixels that a box may reach beyond its picture: annotations are rounded
FAR = 0.1  # of a box's longer side; a joint further outside does not belong to it
ELSEWHERE = "boxes that most of their person's joints lie outside of"
SYSTEMATIC = 0.05  # share of persons from which on that is no slip but a mistake of the whole set


@dataclass
class Finding:
    """One kind of thing that was found.

    severity: error: training stops at it, leaves it out or learns something wrong; warning: look at it; note: to know.
    examples: the first few records, as text.
    """

    severity: Severity
    what: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Findings:
    """Counts findings by kind, in the order in which kinds were first met."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Finding] = {}

    def add(self, severity: Severity, what: str, example: str) -> None:
        """One more of a kind."""
        finding = self.by_kind.setdefault(what, Finding(severity, what))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def worsen(self, what: str, *, of: int) -> None:
        """Make a warning an error if it is found in more than `SYSTEMATIC` of so many records."""
        if (finding := self.by_kind.get(what)) and finding.count > SYSTEMATIC * of:
            finding.severity = "error"

    def sorted(self) -> list[Finding]:
        """Errors first."""
        order: tuple[Severity, ...] = ("error", "warning", "note")
        return sorted(self.by_kind.values(), key=lambda finding: order.index(finding.severity))


@dataclass(frozen=True)
class Checked:
    """An annotation with the right number of keypoints: keypoints [K, 3], box_xywh [4] if it has one, in pixels."""

    annotation: dict[str, Any]
    keypoints: np.ndarray[Any, np.dtype[np.float64]]
    box_xywh: np.ndarray[Any, np.dtype[np.float64]] | None


def images_by_id(content: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """The records of images that have an id."""
    return {image.get("id"): image for image in content["images"] if isinstance(image.get("id"), Hashable)}


def check_ids(content: dict[str, Any], findings: Findings) -> None:
    """Ids of images and annotations that stand twice, or that are not there."""
    for kind in ("images", "annotations"):
        counts = Counter(repr(record.get("id")) for record in content[kind])
        for identity, count in counts.items():
            if identity == "None":
                findings.add("error", f"{kind} without an id", f"{count} records")
            elif count > 1:
                findings.add("error", f"ids that stand twice in {kind}", f"{identity} ({count} times)")


def check_annotations(
    annotations: Iterable[dict[str, Any]], images: dict[Any, dict[str, Any]], keypoints: KeypointSet, findings: Findings
) -> list[Checked]:
    """Boxes, joints, flags and counts of each annotation. Returns those whose keypoints can be read."""
    checked = []
    for annotation in annotations:
        name = f"annotation {annotation.get('id')}"
        check_needed(annotation, name, findings)
        image_id = annotation.get("image_id")
        image = images.get(image_id) if isinstance(image_id, Hashable) else None
        if image is None:
            findings.add("error", "annotations of images that are not listed", f"{name} of image {image_id}")
            continue
        if annotation.get("iscrowd"):
            findings.add("note", "crowds, which are not used", name)
            continue
        found = _keypoints_of(annotation, len(keypoints.skeleton), name, findings)
        if found is None:
            continue
        one = Checked(annotation, found, _box_of(annotation, name, findings))
        if not (found[:, 2] > 0).any():
            findings.add("note", "persons without a labelled joint, which are not used", name)
            continue
        size = _size_of(image)
        if one.box_xywh is not None and size:
            _check_box(one.box_xywh, size, name, findings)
        _check_joints(one, size, name, findings)
        _check_counts(one, name, findings)
        checked.append(one)
    return checked


def check_needed(annotation: dict[str, Any], name: str, findings: Findings) -> None:
    """Fields that scoring stops at if they are there and of another kind."""
    for field_name, allowed, is_fit in NEEDED:
        if field_name in annotation and not is_fit(annotation[field_name]):
            findings.add("error", f"{field_name} that is not {allowed}", f"{name}: {annotation[field_name]!r}")


def check_categories(content: dict[str, Any], keypoints: KeypointSet, findings: Findings) -> None:
    """Annotations that are left out because they are of another category, or of none that the file has."""
    listed = [one.get("id") for one in content.get("categories") or []]
    for annotation in content["annotations"]:
        if keypoints.includes(annotation):
            continue
        told = f"annotation {annotation.get('id')}: category_id {annotation.get('category_id')!r}"
        if annotation["category_id"] in listed:
            findings.add("note", "annotations of other categories, which are not used", told)
        else:
            findings.add("error", "annotations of categories that are not listed, which are not used", told)


def _keypoints_of(
    annotation: dict[str, Any], count: int, name: str, findings: Findings
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    numbers = annotation.get("keypoints") or [0] * 3 * count
    try:
        found = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.size != 3 * count or found.ndim != 1:
        told = len(numbers) if isinstance(numbers, list) else repr(numbers)
        findings.add("error", f"keypoints that are not {3 * count} numbers", f"{name} has {told}")
        return None
    if not np.isfinite(found).all():
        findings.add("error", "keypoints that are not finite", name)
        return None
    found = found.reshape(-1, 3)
    if strange := sorted({float(v) for v in found[:, 2]} - {0.0, 1.0, 2.0}):
        findings.add(
            "warning", "visibility other than 0, 1, 2 (all above 0 count as labelled)", f"{name}: {strange[:3]}"
        )
    return found


def _box_of(annotation: dict[str, Any], name: str, findings: Findings) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    try:
        box = np.asarray(annotation["bbox"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all():
        findings.add("error", "boxes that are not four finite numbers", f"{name}: {annotation.get('bbox')}")
        return None
    return box


def _size_of(image: dict[str, Any]) -> tuple[float, float] | None:
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return float(width), float(height)
    return None


def _check_box(
    box: np.ndarray[Any, np.dtype[np.float64]], size: tuple[float, float], name: str, findings: Findings
) -> None:
    x, y, width, height = (float(value) for value in box)
    inside = min(x + width, size[0]) - max(x, 0.0), min(y + height, size[1]) - max(y, 0.0)
    if min(inside) < MIN_SIZE:
        findings.add("error", "boxes without area in their picture, which are not used", f"{name}: {box.tolist()}")
    elif min(x, y, size[0] - x - width, size[1] - y - height) < -BEYOND:
        findings.add("warning", "boxes that reach beyond their picture, which are clipped", f"{name}: {box.tolist()}")


def _check_joints(one: Checked, size: tuple[float, float] | None, name: str, findings: Findings) -> None:
    points = one.keypoints[one.keypoints[:, 2] > 0, :2]
    if size and ((points < -BEYOND) | (points > np.asarray(size) + BEYOND)).any():
        findings.add("warning", "persons with labelled joints outside the picture", name)
    if one.box_xywh is not None:
        corner, far = one.box_xywh[:2], FAR * max(one.box_xywh[2:])
        outside = ((points < corner - far) | (points > corner + one.box_xywh[2:] + far)).any(axis=1)
        if 2 * outside.sum() > len(points):
            findings.add("warning", ELSEWHERE, name)
        elif outside.any():
            findings.add("warning", "persons with a joint far outside their box", name)


def _check_counts(one: Checked, name: str, findings: Findings) -> None:
    labelled = int((one.keypoints[:, 2] > 0).sum())
    told = one.annotation.get("num_keypoints")
    if told is not None and told != labelled:
        findings.add(
            "warning", "num_keypoints that is not the number of labelled joints", f"{name}: {told}, {labelled}"
        )
    area = one.annotation.get("area")
    if area is None or (is_area(area) and area <= 0):
        findings.add("warning", "persons without an area, which evaluation by OKS needs", f"{name}: {area}")
