"""Poses for millions of pictures: `python -m deploy.annotate photographs --out poses`.

    python -m deploy.annotate photographs --out poses                          persons are found, as the service does
    python -m deploy.annotate val2017 --boxes person_keypoints.json --out poses   persons by their boxes
    python -m deploy.annotate s3://bucket/photographs --out s3://bucket/poses --ray auto   on a Ray cluster

The same command again continues a job that was cut off, where it was; other settings need another folder. A picture
that cannot be read or answered is listed under `errors` and stops nothing. The answers are those of the service.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from deploy.annotate_folder import Folder
from deploy.annotate_plan import Plan, PlanError, Settings, make_plan, sha256_of, shard_name
from deploy.annotate_pool import JobFailed, LocalPool, Told
from deploy.annotate_progress import Bar
from deploy.annotate_shard import FORMATS
from deploy.annotate_work import Job
from model.checkpoint import read_card
from model.device import pick_devices
from service.poses import NO_DETECTOR
from service.settings import BUNDLED_CHECKPOINT, ServiceSettings

CORES_A_PROCESS = 4
DETECTOR: str = ServiceSettings.model_fields["detector"].default
MIN_POSE_SCORE: float = ServiceSettings.model_fields["min_pose_score"].default


def manifests(out: Folder) -> Iterator[dict[str, Any]]:
    """Of the shards that are done."""
    for name in out.names("manifests"):
        yield out.read_json(f"manifests/{name}")


def summary(out: Folder, plan: Plan) -> dict[str, Any]:
    """Exact counts of what is done. Raises PlanError if they contradict the plan."""
    failed: Counter[str] = Counter()
    shards: set[int] = set()
    pictures = answered = persons = 0
    for one in manifests(out):
        shards.add(one["shard"])
        pictures += one["pictures"]
        answered += one["answered"]
        persons += one["persons"]
        failed.update(one["failed"])
    if answered + failed.total() != pictures or (len(shards) == plan.shards and pictures != plan.pictures):
        raise PlanError(f"{out.url}/manifests do not add up to the plan; allowed: files as they were written")
    return {
        "pictures": plan.pictures,
        "done": pictures,
        "answered": answered,
        "persons": persons,
        "failed": dict(sorted(failed.items())),
        "ignored": plan.ignored,
        "shards": plan.shards,
        "shards_done": len(shards),
    }


def annotate(given: argparse.Namespace) -> dict[str, Any]:
    """Do what is left of the job. Raises PlanError, JobFailed, ValueError for a checkpoint that cannot be read."""
    out = Folder(given.out)
    detector = NO_DETECTOR if given.boxes else given.detector
    settings = Settings(
        sources=tuple(given.sources),
        checkpoint_sha256=read_card(given.checkpoint).sha256,
        boxes=sha256_of(given.boxes) if given.boxes else None,
        detector=detector,
        min_pose_score=None if detector == NO_DETECTOR else given.min_pose_score,
        flip_test=given.flip_test,
        precision=given.precision,
        runtime=given.runtime,
        format=given.format,
        shard_size=given.shard_size,
    )

    def told(pictures: int) -> None:
        if pictures % (100 * settings.shard_size) == 0:
            print(f"{pictures:,} pictures listed", file=sys.stderr, flush=True)

    plan = make_plan(out, settings, given.boxes, told)
    names = {name.removesuffix(".json") for name in out.names("manifests")}
    left = [shard for shard in range(plan.shards) if shard_name(shard) not in names]
    so_far = summary(out, plan)
    print(
        f"{plan.pictures:,} pictures in {plan.shards:,} shards, {so_far['done']:,} of them done before", file=sys.stderr
    )
    if left:
        bar = Bar(total=plan.pictures, before=so_far["done"], failed=sum(so_far["failed"].values()))
        bar.show(now=True)
        with closing(run_shards(given, settings, left)) as happening:
            for one in happening:
                bar.hear(one)
        bar.show(now=True)
        print(file=sys.stderr)
    counted = summary(out, plan)
    out.write_json("summary.json", counted)
    return counted


def run_shards(given: argparse.Namespace, settings: Settings, shards: Sequence[int]) -> Generator[Told, None, None]:
    """Where the work is done: in processes here, or on a Ray cluster."""
    if given.ray is None:
        yield from LocalPool(jobs(given, settings)).run(shards)
        return
    from deploy.annotate_ray import RayPool

    job = _job(given, settings, device=given.device, threads=given.threads)
    cpus = given.num_cpus or max(1, given.threads)
    pool = RayPool(job, address=given.ray, workers=given.workers, num_cpus=cpus, num_gpus=given.num_gpus)
    yield from pool.run(shards)


def jobs(given: argparse.Namespace, settings: Settings) -> list[Job]:
    """One for each process: its device, and its part of the cores."""
    devices = [str(device) for device in pick_devices(given.device)]
    cores = os.cpu_count() or 1
    on_cpu = devices == ["cpu"]
    workers = given.workers or (max(1, cores // CORES_A_PROCESS) if on_cpu else len(devices))
    threads = given.threads or (max(1, cores // workers) if on_cpu else 0)
    return [_job(given, settings, device=devices[number % len(devices)], threads=threads) for number in range(workers)]


def _job(given: argparse.Namespace, settings: Settings, *, device: str, threads: int) -> Job:
    return Job(
        out=given.out,
        format=settings.format,
        flip_test=settings.flip_test,
        checkpoint=given.checkpoint.resolve(),
        detector=settings.detector,
        min_pose_score=settings.min_pose_score or 0.0,
        device=device,
        precision=settings.precision,
        runtime=settings.runtime,
        threads=threads,
    )


def told_at_the_end(counted: dict[str, Any], out: str) -> str:
    """The counts, for a person."""
    failed = sum(counted["failed"].values())
    reasons = ", ".join(f"{reason} {times:,}" for reason, times in counted["failed"].items())
    ignored = ", ".join(f"{suffix} {times:,}" for suffix, times in sorted(counted["ignored"].items()))
    lines = [
        f"{counted['done']:,} of {counted['pictures']:,} pictures done: {counted['answered']:,} answered, "
        f"{counted['persons']:,} persons; {failed:,} failed" + (f" ({reasons}; see {out}/errors)" if failed else ""),
    ]
    if ignored:
        lines.append(f"files without a picture's name, not looked at: {ignored}")
    return "\n".join(lines)


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Exits with 2 for what is wrong with it."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.annotate", description="Poses for many pictures, into files of COCO results."
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="folder, bucket, picture, or list (.txt)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder or URL for results; also what is continued")
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED_CHECKPOINT, help="instead of the bundled one")
    parser.add_argument(
        "--boxes", type=Path, metavar="JSON", help="COCO annotations with the persons' boxes; else they are found"
    )
    parser.add_argument(
        "--detector", default=DETECTOR, help=f"what finds persons, as `python -m service` has it ({DETECTOR})"
    )
    parser.add_argument(
        "--min-pose-score",
        type=float,
        default=MIN_POSE_SCORE,
        help=f"of persons that it found, also as there ({MIN_POSE_SCORE})",
    )
    parser.add_argument("--flip-test", action="store_true", help="also look at the mirrored picture; twice the work")
    parser.add_argument("--format", choices=FORMATS, default="parquet", help="of the results (parquet)")
    parser.add_argument("--shard-size", type=int, default=1000, help="pictures in a file of results (1000)")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes; 0: one for each CUDA device, or for each four cores"
    )
    parser.add_argument("--device", default="auto", help="as `python -m service` has it")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "int8"), default="auto")
    parser.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of each process; 0: the cores in equal parts")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster: auto, local, or its address")
    parser.add_argument("--num-cpus", type=float, default=0.0, help="of each process there; 0: its --threads, or 1")
    parser.add_argument("--num-gpus", type=float, default=0.0, help="of each process on a Ray cluster, 0.5 for a half")
    given = parser.parse_args(arguments)
    if given.format == "parquet" and find_spec("pyarrow") is None:
        parser.error("--format parquet needs pyarrow: pip install '.[annotate]'; or choose --format json")
    if given.ray is not None and find_spec("ray") is None:
        parser.error("--ray needs Ray: pip install '.[ray]'")
    if not 0 <= given.min_pose_score <= 1:
        parser.error(f"--min-pose-score is {given.min_pose_score:g}; allowed: 0 to 1")
    if given.workers < 0 or given.threads < 0:
        parser.error(f"--workers {given.workers} --threads {given.threads}; allowed: 0 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every picture is answered or listed as an error; 1 if the job was cut off; 2 for what cannot be done."""
    given = read_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("deploy").setLevel(logging.INFO)
    torch.set_num_threads(1)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        counted = annotate(given)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 1
    except JobFailed as error:
        print(f"python -m deploy.annotate: {error}\nWhat is done is kept; the same command goes on.", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"python -m deploy.annotate: {error}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    print(told_at_the_end(counted, given.out))
    return 0


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
