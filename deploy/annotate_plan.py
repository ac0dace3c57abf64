"""Which pictures there are and which of them belong together: listed once, written down, and never asked again.

    SOURCE: a folder or bucket (with all below it), one picture, or a list: a text file with a path or URL a line
    plan/000000.jsonl, plan/000001.jsonl, ...   one file for each shard, a picture a line
    plan.json                                   the settings, and how many; written last

A job of millions of pictures holds one shard of the list in memory. Knows nothing of poses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from deploy.annotate_folder import Folder
from service.poses import Box

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
LISTS = (".txt", ".lst")
PERSON = 1  # COCO's category
PLAN = "plan.json"


class PlanError(ValueError):
    """What was asked cannot be done, or not in this folder. The message names the value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the results depend on. The same folder is never continued with others.

    boxes: SHA-256 of the file with boxes; None: persons are where the detector finds them.
    detector: as `python -m service` has it; `none` where there are boxes.
    min_pose_score: as well; None where no detector finds persons.
    """

    sources: tuple[str, ...]
    checkpoint_sha256: str
    boxes: str | None
    detector: str
    min_pose_score: float | None
    flip_test: bool
    precision: str
    runtime: str
    format: str
    shard_size: int

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise PlanError(f"shard_size is {self.shard_size}; allowed: at least 1")


@dataclass(frozen=True)
class Item:
    """One picture of a job: its path or URL, its id, and the persons in it (None: where the detector finds them)."""

    image: str
    image_id: int
    boxes_xywh: list[Box] | None = None

    @classmethod
    def of(cls, line: str | bytes) -> Item:
        image, image_id, boxes = json.loads(line)
        return cls(image, image_id, None if boxes is None else [(b[0], b[1], b[2], b[3]) for b in boxes])

    def line(self) -> str:
        return json.dumps([self.image, self.image_id, self.boxes_xywh])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many there are. `ignored`: files in folders that have no picture's name, by their ending."""

    shards: int
    pictures: int
    ignored: dict[str, int]


def make_plan(out: Folder, settings: Settings, boxes: Path | None, told: Callable[[int], None]) -> Plan:
    """List the pictures, or take the list that is there. Raises PlanError.

    Args:
        out: where the job is.
        settings: of the job.
        boxes: COCO's layout.
        told: is given the number of pictures now and then.
    """
    wanted = json.loads(json.dumps(asdict(settings)))
    if (kept := out.read_json(PLAN)) is not None:
        for name, value in wanted.items():
            if kept["settings"].get(name) != value:
                was = kept["settings"].get(name)
                raise PlanError(
                    f"{out.url} was begun with {name} {was!r}, and this is {value!r}; "
                    "allowed: the same again, or another folder"
                )
        return Plan(**kept["plan"])
    ignored: Counter[str] = Counter()
    items = iter(read_boxes(boxes, settings.sources) if boxes else number(list_sources(settings.sources, ignored)))
    shards = pictures = 0
    while shard := list(islice(items, settings.shard_size)):
        out.write(f"plan/{shard_name(shards)}.jsonl", "".join(f"{one.line()}\n" for one in shard).encode())
        shards, pictures = shards + 1, pictures + len(shard)
        told(pictures)
    if not pictures:
        raise PlanError(f"no pictures in {', '.join(settings.sources)}; allowed names: {', '.join(PICTURES)}")
    plan = Plan(shards=shards, pictures=pictures, ignored=dict(ignored))
    out.write_json(PLAN, {"settings": wanted, "plan": asdict(plan)})
    return plan


def read_shard(out: Folder, shard: int) -> list[Item]:
    """The pictures of one shard."""
    content = out.read(f"plan/{shard_name(shard)}.jsonl")
    if content is None:
        raise PlanError(f"{out.url}/plan lacks shard {shard}; allowed: a plan as it was written")
    return [Item.of(line) for line in content.splitlines()]


def shard_name(shard: int) -> str:
    """The name of its files, without ending."""
    return f"{shard:06d}"


def number(images: Iterable[str]) -> Iterator[Item]:
    """Ids from 1, in order."""
    return (Item(image, image_id) for image_id, image in enumerate(images, start=1))


def list_sources(sources: Sequence[str], ignored: Counter[str]) -> Iterator[str]:
    """The path or URL of every picture, in an order that does not change. Raises PlanError."""
    return chain.from_iterable(_list_source(source, ignored) for source in sources)


def _list_source(source: str, ignored: Counter[str]) -> Iterator[str]:
    try:
        fs, path = fsspec.core.url_to_fs(source)
        if fs.isdir(path):
            return _below(fs, path, ignored)
        if not fs.exists(path):
            raise PlanError(f"{source} does not exist; allowed: a folder, a picture, or a list of them")
    except (ValueError, ImportError, OSError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"{source} cannot be read: {error}") from error
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in PICTURES:
        return iter([_full(fs, path)])
    if suffix in LISTS:
        return _lines(source)
    raise PlanError(f"{source} is neither a folder nor named as a picture or a list; allowed: {PICTURES + LISTS}")


def _lines(source: str) -> Iterator[str]:
    """What a list names, line by line; a path is relative to where the command runs."""
    with fsspec.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            if (image := line.strip()) and not image.startswith("#"):
                yield image


def _below(fs: Any, folder: str, ignored: Counter[str]) -> Iterator[str]:
    for name, is_folder in sorted(_entries(fs, folder)):
        if is_folder:
            yield from _below(fs, f"{folder}/{name}", ignored)
        elif (suffix := PurePosixPath(name).suffix.lower()) in PICTURES:
            yield _full(fs, f"{folder}/{name}")
        else:
            ignored[suffix or "no ending"] += 1


def _entries(fs: Any, folder: str) -> list[tuple[str, bool]]:
    """Name, and whether it is a folder, of all in a folder. Links to folders are left out: they may be circles."""
    if isinstance(fs, LocalFileSystem):  # a million names, without as many dictionaries
        with os.scandir(folder) as found:
            return [(one.name, one.is_dir()) for one in found if not (one.is_symlink() and one.is_dir())]
    listed = [
        (str(one["name"]).rstrip("/").rsplit("/", 1)[-1], one["type"] == "directory")
        for one in fs.ls(folder, detail=True)
        if str(one["name"]).rstrip("/") != folder.rstrip("/")  # buckets have entries for folders themselves
    ]
    fs.invalidate_cache()
    return listed


def _full(fs: Any, path: str) -> str:
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def read_boxes(path: Path, sources: Sequence[str]) -> Iterator[Item]:
    """The pictures of a file in COCO's layout, each with the boxes of its persons. Raises PlanError.

    Crowds, other categories and boxes without area are left out. The pictures lie in the one source.
    """
    if len(sources) != 1:
        raise PlanError(f"with boxes there are {len(sources)} sources; allowed: one, the folder of the pictures")
    try:
        content = json.loads(path.read_bytes())
        boxes: dict[int, list[Box]] = defaultdict(list)
        for one in content["annotations"]:
            x, y, width, height = map(float, one["bbox"])
            if not one.get("iscrowd") and one.get("category_id", PERSON) == PERSON and min(width, height) > 0:
                boxes[one["image_id"]].append((x, y, width, height))
        images = [(str(one["file_name"]), int(one["id"])) for one in content["images"]]
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"{path} is not of COCO's layout: {error!r}") from error
    fs, root = fsspec.core.url_to_fs(sources[0])
    for name, image_id in images:
        yield Item(_full(fs, f"{root}/{name}"), image_id, boxes.get(image_id, []))


def sha256_of(path: Path) -> str:
    """Of a file. Raises PlanError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PlanError(f"cannot read {path}: {error.strerror}") from error
