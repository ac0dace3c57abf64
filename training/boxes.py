"""Who is looked at in an evaluation: annotated persons in their boxes, or whatever a detector found."""

from __future__ import annotations

from pathlib import Path

from model.geometry import MIN_SIZE, clip_box
from training.coco import AnnotationError, KeypointData, check_layout, read_json
from training.predict import BoxedPerson


def ground_truth_boxes(data: KeypointData) -> list[BoxedPerson]:
    """Every annotated person that counts, in its annotated box."""
    return [BoxedPerson(person.image_id, person.image_path, person.box_xywh) for person in data.persons]


def detected_boxes(
    detections_path: Path, annotations_path: Path, images_dir: Path, *, category_id: int = 1
) -> list[BoxedPerson]:
    """Every detected person in the annotated images, in the file's order; `category_id` is what counts as one.

    Boxes are clipped to their image; slivers are left out. Raises AnnotationError for a malformed file.
    """
    content = read_json(annotations_path)
    check_layout(content, annotations_path)
    images = {image["id"]: image for image in content["images"]}
    detections = read_json(detections_path)
    if not isinstance(detections, list):
        raise AnnotationError(f"{detections_path} is a {type(detections).__name__}; allowed: a list of COCO detections")
    persons = []
    for number, detection in enumerate(detections):
        try:
            if detection["category_id"] != category_id or detection["image_id"] not in images:
                continue
            image = images[detection["image_id"]]
            box = clip_box(detection["bbox"], image["width"], image["height"])
            if min(box[2], box[3]) >= MIN_SIZE:
                path = images_dir / image["file_name"]
                persons.append(BoxedPerson(image["id"], path, box, float(detection["score"])))
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{detections_path}: detection {number}: {error!r}") from error
    return persons
