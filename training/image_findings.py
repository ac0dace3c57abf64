"""What can be said about the files of images by their heads: whether they are there, and of which size.

Decodes nothing, so a file that is cut off after its head is not noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from training.data_findings import Findings

HEAD_READERS = 16  # threads
ORIENTATION_TAG = 0x0112  # of EXIF
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


def check_images(images: Sequence[dict[str, Any]], folder: Path, findings: Findings) -> None:
    """Files that are missing, cannot be read, or have another size than their record says; by their heads alone."""
    with ThreadPoolExecutor(HEAD_READERS) as readers:
        for image, told in zip(images, readers.map(lambda image: _read_head(image, folder), images), strict=True):
            name = f"image {image.get('id')} ({image.get('file_name')})"
            if isinstance(told, str):
                findings.add("error", told, name)
                continue
            width, height, orientation = told
            record = image.get("width"), image.get("height")
            upright = (height, width) if orientation in TURNED else (width, height)
            if record == upright:
                continue
            if record == (width, height):
                findings.add("error", "images that EXIF turns, with annotations of the picture as it lies", name)
            else:
                findings.add("error", "images of another size than their record says", f"{name}: {record}, {upright}")


def has_file_name(image: dict[str, Any]) -> bool:
    """Whether the record of an image names a file."""
    return isinstance(image.get("file_name"), str) and bool(image["file_name"])


def _read_head(image: dict[str, Any], folder: Path) -> tuple[int, int, int] | str:
    """Width and height as stored, and EXIF's orientation; or what is wrong."""
    if not has_file_name(image):
        return "images without a file_name"
    try:
        with Image.open(folder / image["file_name"]) as head:
            return head.width, head.height, int(head.getexif().get(ORIENTATION_TAG, 1))
    except FileNotFoundError:
        return "images whose file is missing"
    except Exception:  # decoders raise whatever they meet
        return "images that cannot be read"
