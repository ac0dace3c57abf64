"""One shard: its pictures through the very service that answers requests, and its files, the manifest last.

results/000000.parquet (or .json)   a row for each person
errors/000000.jsonl                 a line for each picture that has none, with the reason; only where there are any
manifests/000000.json               counts; a shard is done when this is there
attempts/000000.json                while it is not: how often it was begun, and what it was at when that ended
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import fsspec

from deploy.annotate_attempt import Attempt, Failure
from deploy.annotate_folder import Folder
from deploy.annotate_plan import Item, read_shard, shard_name
from service.core import PoseService
from service.errors import EngineFailed, PoseServiceError, TooLarge
from service.poses import PoseRequest, PoseResult
from service.record import Caller

FORMATS = ("parquet", "json")
UNREADABLE = "unreadable"
MANY_FAILURES = 10  # of the network in one shard, and a tenth of it: then the network is ill, not the pictures
NOTHING_TOLD: Callable[[int], None] = lambda _: None  # noqa: E731


class NetworkIll(RuntimeError):
    """The network fails on whatever it is given; the shard is left for a process that is well."""


@dataclass
class Done:
    """What became of the pictures of a shard, by their place in it."""

    results: dict[int, PoseResult] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)


class ShardWorker:
    """Does shards, one after the other.

    Args:
        service: warmed up, and nobody else's.
        out: where the job is.
        format: of the results.
        flip_test: as the service has it.
        in_flight: pictures that are read, decoded or waiting at a time; bounds the memory, and keeps batches full.
    """

    def __init__(self, service: PoseService, out: Folder, *, format: str, flip_test: bool, in_flight: int) -> None:
        self._service = service
        self._out = out
        self._format = format
        self._flip_test = flip_test
        self._in_flight = in_flight

    async def do(self, shard: int, told: Callable[[int], None] = NOTHING_TOLD) -> dict[str, Any]:
        """The manifest of a shard, when all its files are written.

        Args:
            shard: its number.
            told: is given 1 for each picture that is over.

        Raises NetworkIll.
        """
        started_s = time.monotonic()
        items = read_shard(self._out, shard)
        attempt = Attempt(self._out, shard)
        done = Done(failures=attempt.deadly())
        left = [number for number in range(len(items)) if number not in done.failures]
        attempt.begin()
        if attempt.careful:
            for number in left:
                attempt.at(number)
                await self._one(items, number, done, told)
            attempt.at(None)
        else:
            await self._many(items, left, done, told)
        for number in [n for n, failure in done.failures.items() if failure.reason == EngineFailed.reason]:
            del done.failures[number]  # its neighbour's fault, perhaps: once more, alone
            await self._one(items, number, done, NOTHING_TOLD)
        failed = Counter(failure.reason for failure in done.failures.values())
        if failed[EngineFailed.reason] > max(MANY_FAILURES, len(items) // 10):
            raise NetworkIll(f"the network failed on {failed[EngineFailed.reason]} of {len(items)} pictures")
        manifest = self._write(shard, items, done, failed, seconds=time.monotonic() - started_s)
        attempt.end()
        return manifest

    async def _many(self, items: Sequence[Item], left: list[int], done: Done, told: Callable[[int], None]) -> None:
        numbers = iter(left)

        async def work() -> None:
            for number in numbers:
                await self._one(items, number, done, told)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(self._in_flight, len(left))):
                tasks.create_task(work())

    async def _one(self, items: Sequence[Item], number: int, done: Done, told: Callable[[int], None]) -> None:
        item = items[number]
        try:
            content = await asyncio.to_thread(read_picture, item.image, self._service.limits.max_bytes)
            done.results[number] = await self._estimate(content, item)
        except PoseServiceError as error:
            done.failures[number] = Failure(error.reason, str(error))
        except OSError as error:
            done.failures[number] = Failure(UNREADABLE, error.strerror or type(error).__name__)
        told(1)

    async def _estimate(self, content: bytes, item: Item) -> PoseResult:
        asked = PoseRequest(image=content, boxes_xywh=item.boxes_xywh, flip_test=self._flip_test)
        admission = self._service.admission
        async with admission.request(Caller(protocol="offline", method="pose")) as record:
            admission.hold(record, len(content))
            return await self._service.estimate(asked, record, patient=True)

    def _write(
        self, shard: int, items: Sequence[Item], done: Done, failed: Counter[str], *, seconds: float
    ) -> dict[str, Any]:
        name = shard_name(shard)
        rows = [row for number, result in sorted(done.results.items()) for row in _rows(items[number], result)]
        self._out.write(f"results/{name}.{self._format}", encoded(rows, self._format))
        if done.failures:
            lines = [
                json.dumps({"image": items[n].image, "image_id": items[n].image_id} | asdict(failure))
                for n, failure in sorted(done.failures.items())
            ]
            self._out.write(f"errors/{name}.jsonl", ("\n".join(lines) + "\n").encode())
        else:
            self._out.delete(f"errors/{name}.jsonl")  # of an attempt that came almost to its end
        manifest = {
            "shard": shard,
            "pictures": len(items),
            "answered": len(done.results),
            "persons": len(rows),
            "failed": dict(failed),
            "seconds": round(seconds, 3),
        }
        self._out.write_json(f"manifests/{name}.json", manifest)
        return manifest


def read_picture(image: str, max_bytes: int) -> bytes:
    """The bytes of a file. Raises OSError, and TooLarge for more than are taken."""
    try:
        with fsspec.open(image, "rb") as file:
            content = bytes(file.read(max_bytes + 1))
    except (ValueError, ImportError) as error:  # a URL that fsspec does not know, or lacks a package for
        raise OSError(0, str(error)) from error
    if len(content) > max_bytes:
        raise TooLarge(f"the file has more than {max_bytes} bytes; allowed: at most as many")
    return content


def _rows(item: Item, result: PoseResult) -> list[dict[str, Any]]:
    return [
        {
            "image": item.image,
            "image_id": item.image_id,
            "width": result.width,
            "height": result.height,
            "category_id": 1,
            "bbox": list(pose.box_xywh),
            "score": pose.score,
            "keypoints": [value for keypoint in pose.keypoints for value in keypoint],
        }
        for pose in result.poses
    ]


def encoded(rows: list[dict[str, Any]], kind: str) -> bytes:
    """COCO results as Parquet (needs pyarrow), or as a JSON array with a result a line."""
    if kind == "json":
        return ("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n").encode()
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema(
        [
            ("image", pa.string()),
            ("image_id", pa.int64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("category_id", pa.int32()),
            ("bbox", pa.list_(pa.float64())),
            ("score", pa.float64()),
            ("keypoints", pa.list_(pa.float64())),
        ]
    )
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())
