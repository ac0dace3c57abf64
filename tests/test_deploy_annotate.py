"""Poses for many pictures: every picture once, the service's own numbers, and nothing that one bad picture can stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter, deque
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from callers import serving
from deploy import annotate, annotate_pool, annotate_progress
from deploy.annotate_attempt import Attempt
from deploy.annotate_folder import Folder
from deploy.annotate_plan import Item, PlanError, Settings, list_sources, make_plan, read_shard
from deploy.annotate_pool import Finished, JobFailed, LocalPool
from deploy.annotate_progress import Bar
from deploy.annotate_shard import ShardWorker, encoded
from drawings import lively_network, noise_photograph, tiny_config
from fakes import BrightestPixel
from model.checkpoint import save_checkpoint
from pictures import jpeg, square
from service.__main__ import build_service, read_settings
from service.http_api import create_app
from service.metrics import Metrics

TORCH = ("--detector", "none", "--device", "cpu", "--precision", "fp32", "--runtime", "torch", "--threads", "1")


def settings(**changes) -> Settings:
    usual = {"checkpoint_sha256": "0" * 64, "boxes": None, "detector": "none", "min_pose_score": None}
    usual |= {"sources": ("in",), "precision": "fp32", "runtime": "torch", "format": "json"}
    usual |= {"flip_test": False, "shard_size": 3}
    return Settings(**(usual | changes))


def draw_folder(folder: Path, good: int, bad: int = 0) -> None:
    """Pictures in two folders, damaged ones, what is no picture, and what is not named as one."""
    (folder / "more").mkdir(parents=True)
    for number in range(good):
        content = jpeg(square(center=(10 + number % 40, 20 + number % 30)))
        (folder / ("more" if number % 3 else ".") / f"p{number:04d}.jpg").write_bytes(content)
    for number in range(bad):
        content = jpeg()[: 100 + number] if number % 2 else b"no picture"
        (folder / f"bad{number:03d}.jpeg").write_bytes(content)
    (folder / "notes.md").write_text("not looked at")


def rows_of(out: Path) -> list[dict]:
    return [row for path in sorted((out / "results").glob("*.json")) for row in json.loads(path.read_text())]


def errors_of(out: Path) -> list[dict]:
    lines = [line for path in sorted((out / "errors").glob("*")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    return path


def do_shards(out: Path, count: int, *, estimator: BrightestPixel | None = None, **options) -> list[dict]:
    """Shards of a plan on a fake network."""

    async def run() -> list[dict]:
        async with serving(estimator) as service:
            how = {"format": "json", "flip_test": False, "in_flight": 4} | options
            worker = ShardWorker(service, Folder(str(out)), **how)
            return [await worker.do(shard) for shard in range(count)]

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_sources_are_folders_pictures_and_lists_in_an_order_that_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "in", 4)
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "list.txt").write_text("# chosen\nin/p0000.jpg\n\n  in/gone.jpg \n")
    ignored: Counter[str] = Counter()
    found = list(list_sources(["in", "list.txt", "in/p0003.jpg"], ignored))
    inside = [str(tmp_path / "in" / name) for name in ("more/p0001.jpg", "more/p0002.jpg", "p0000.jpg", "p0003.jpg")]
    assert found == [*inside, "in/p0000.jpg", "in/gone.jpg", inside[-1]]
    assert ignored == {".md": 1}
    assert list(list_sources(["file://" + inside[0]], ignored)) == [inside[0]]


def test_pictures_and_results_may_lie_in_what_fsspec_knows(tmp_path):
    memory = Folder("memory://bucket")
    for name in ("b/2.jpg", "b/1.png", "a.JPG", "b/c/3.webp", "b/readme"):
        memory.write(name, jpeg())
    plan = make_plan(Folder("memory://out"), settings(sources=("memory://bucket",)), None, lambda _: None)
    assert (plan.shards, plan.pictures, plan.ignored) == (2, 4, {"no ending": 1})
    items = [item for shard in range(2) for item in read_shard(Folder("memory://out"), shard)]
    assert [item.image.rsplit("bucket/")[-1] for item in items] == ["a.JPG", "b/1.png", "b/2.jpg", "b/c/3.webp"]
    do_shards("memory://out", 2)
    out = Folder("memory://out")
    assert sorted(out.names("results")) == ["000000.json", "000001.json"]
    assert out.read_json("manifests/000001.json")["answered"] == 1
    assert list(out.names("nothing")) == []
    assert list(out.names("attempts")) == []


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (("gone",), "gone does not exist"),
        (("notes.md",), "neither a folder nor named as a picture"),
        (("empty",), "no pictures in empty"),
        (("nobody://x/y",), "nobody://x/y cannot be read"),
    ],
)
def test_sources_that_are_none_are_refused(tmp_path, monkeypatch, sources, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(PlanError, match=words):
        make_plan(Folder("out"), settings(sources=sources), None, lambda _: None)


def test_a_job_is_continued_with_the_same_settings_only(tmp_path):
    draw_folder(tmp_path / "in", 5)
    usual = {"sources": (str(tmp_path / "in"),)}
    out = Folder(str(tmp_path / "out"))
    plan = make_plan(out, settings(**usual), None, lambda _: None)
    (tmp_path / "in" / "p9999.jpg").write_bytes(jpeg())
    assert make_plan(out, settings(**usual), None, lambda _: None) == plan, "the list is as it was"
    for name, value in (("flip_test", True), ("checkpoint_sha256", "1" * 64), ("shard_size", 4)):
        with pytest.raises(PlanError, match=rf"was begun with {name} .* allowed: the same again, or another folder"):
            make_plan(out, settings(**usual, **{name: value}), None, lambda _: None)
    with pytest.raises(PlanError, match="shard_size is 0"):
        settings(shard_size=0)


def test_persons_come_from_coco_boxes(tmp_path):
    (tmp_path / "one.jpg").write_bytes(jpeg())
    annotations = [
        {"image_id": 7, "bbox": [30, 10, 20, 20]},
        {"image_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"image_id": 7, "bbox": [0, 0, 0, 9]},
        {"image_id": 7, "bbox": [0, 0, 9, 9], "category_id": 3},
        {"image_id": 9, "bbox": [500, 500, 9, 9], "category_id": 1},
    ]
    images = [{"id": 7, "file_name": "one.jpg"}, {"id": 9, "file_name": "one.jpg"}, {"id": 5, "file_name": "one.jpg"}]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"images": images, "annotations": annotations}))
    make_plan(Folder(str(tmp_path / "out")), settings(sources=(str(tmp_path),), boxes="x"), boxes, lambda _: None)
    (manifest,) = do_shards(tmp_path / "out", 1)
    assert manifest | {"seconds": 0} == {
        "shard": 0, "pictures": 3, "answered": 2, "persons": 1, "failed": {"invalid_parameter": 1}, "seconds": 0
    }  # fmt: skip
    (row,) = rows_of(tmp_path / "out")
    assert (row["image_id"], row["bbox"], row["category_id"]) == (7, [30, 10, 20, 20], 1)
    assert row["keypoints"][:3] == pytest.approx([40, 20, 0.5], abs=0.6)
    assert "wholly outside" in errors_of(tmp_path / "out")[0]["message"]
    boxes.write_text('{"images": 3}')
    with pytest.raises(PlanError, match=r"boxes\.json is not of COCO's layout"):
        make_plan(Folder(str(tmp_path / "other")), settings(sources=(".",)), boxes, lambda _: None)


def test_several_hundred_pictures_and_each_bad_one_alone(tmp_path):
    draw_folder(tmp_path / "in", 290, bad=10)
    (tmp_path / "in" / "locked.jpg").mkdir()  # a folder, whatever its name
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in sorted((tmp_path / "in").rglob("p*.jpg"))) + "/gone.jpg\n")
    sources = (str(tmp_path / "in"), str(listed))
    plan = make_plan(Folder(str(tmp_path / "out")), settings(sources=sources, shard_size=64), None, lambda _: None)
    told = do_shards(tmp_path / "out", plan.shards)
    counted = annotate.summary(Folder(str(tmp_path / "out")), plan)
    assert counted == {
        "pictures": 591, "done": 591, "answered": 580, "persons": 580, "shards": 10, "shards_done": 10,
        "failed": {"not_an_image": 10, "unreadable": 1}, "ignored": {".md": 1},
    }  # fmt: skip
    rows = rows_of(tmp_path / "out")
    assert len({row["image_id"] for row in rows}) == len(rows) == sum(one["persons"] for one in told)
    errors = errors_of(tmp_path / "out")
    assert {error["image_id"] for error in errors}.isdisjoint(row["image_id"] for row in rows)
    assert Counter(error["reason"] for error in errors) == {"not_an_image": 10, "unreadable": 1}
    assert errors[-1]["image"] == "/gone.jpg"
    text = annotate.told_at_the_end(counted, "out")
    assert "591 of 591 pictures done: 580 answered" in text
    assert "not_an_image 10, unreadable 1; see out/errors" in text


def test_neighbours_of_what_the_network_fails_on_get_another_try(tmp_path):
    class FailsOnCrowds(BrightestPixel):
        def estimate(self, crops, *, flip_test=False):
            if len(crops) > 1:
                raise RuntimeError("out of memory")
            return super().estimate(crops, flip_test=flip_test)

    draw_folder(tmp_path / "in", 12)
    make_plan(Folder(str(tmp_path / "out")), settings(sources=(str(tmp_path / "in"),), shard_size=12), None, print)
    (manifest,) = do_shards(tmp_path / "out", 1, estimator=FailsOnCrowds(), in_flight=12)
    assert (manifest["answered"], manifest["failed"]) == (12, {})


def test_a_network_that_fails_on_everything_leaves_the_shard_to_others(tmp_path):
    class Fails(BrightestPixel):
        def estimate(self, crops, *, flip_test=False):
            if crops[0].any():
                raise RuntimeError("the device is lost")
            return super().estimate(crops, flip_test=flip_test)

    draw_folder(tmp_path / "in", 12)
    make_plan(Folder(str(tmp_path / "out")), settings(sources=(str(tmp_path / "in"),), shard_size=12), None, print)
    with pytest.raises(annotate_pool.NetworkIll, match="the network failed on 12 of 12 pictures"):
        do_shards(tmp_path / "out", 1, estimator=Fails())
    assert not (tmp_path / "out" / "manifests").exists()


def test_a_picture_that_kills_is_found_and_left_out(tmp_path):
    draw_folder(tmp_path / "in", 6)
    make_plan(Folder(str(tmp_path / "out")), settings(sources=(str(tmp_path / "in"),), shard_size=6), None, print)

    class Killed(BaseException):
        pass

    class Dies(BrightestPixel):
        """As far as files can tell, a process that ends at the picture whose square is at the bottom."""

    def killing(service_estimate):
        async def estimate(request, record, **options):
            if request.image == deadly:
                raise Killed
            return await service_estimate(request, record, **options)

        return estimate

    deadly = (tmp_path / "in" / "more" / "p0004.jpg").read_bytes()

    async def run() -> int:
        deaths = 0
        async with serving(Dies()) as service:
            service.estimate = killing(service.estimate)
            while True:
                worker = ShardWorker(
                    service, Folder(str(tmp_path / "out")), format="json", flip_test=False, in_flight=3
                )
                try:
                    await worker.do(0)
                    return deaths
                except (Killed, BaseExceptionGroup):
                    deaths += 1

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 4, "two that tell nothing, and two alone with it"
    (error,) = errors_of(tmp_path / "out")
    assert error["reason"] == "deadly"
    assert error["image"].endswith("p0004.jpg")
    assert len(rows_of(tmp_path / "out")) == 5
    assert not list((tmp_path / "out" / "attempts").iterdir())


def test_an_attempt_that_is_ended_on_purpose_does_not_count(tmp_path):
    out = Folder(str(tmp_path))
    for _ in range(5):
        attempt = Attempt(out, 0)
        attempt.begin()
        assert not attempt.careful
        Attempt(out, 0).forgive()


def test_the_numbers_are_those_of_the_service(tmp_path, tiny, capsys):
    (tmp_path / "in").mkdir()
    for number in range(5):
        Image.fromarray(noise_photograph(90 + number, 70, seed=number)).save(tmp_path / "in" / f"{number}.png")
    out = tmp_path / "out"
    command = [str(tmp_path / "in"), "--out", str(out), "--checkpoint", str(tiny), "--flip-test", "--shard-size", "2"]
    assert annotate.main([*command, "--workers", "1", *TORCH]) == 0
    assert "5 of 5 pictures done: 5 answered, 5 persons; 0 failed" in capsys.readouterr().out
    rows = parquet.read_table(out / "results").to_pylist()
    assert len(rows) == 5

    async def ask() -> None:
        settings = read_settings(["--checkpoint", str(tiny), *TORCH])
        service = build_service(settings, Metrics(), None)
        await service.warm_up()
        app = create_app(service, Metrics(), version="0", body_timeout_s=9)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            for row in rows:
                content = Path(row["image"]).read_bytes()
                asked = {"content": content, "headers": {"Content-Type": "image/png"}}
                answer = (await client.post("/pose?flip_test=true", **asked)).json()
                (pose,) = answer["poses"]
                assert row["keypoints"] == pytest.approx(pose["keypoints"], abs=2e-3)
                assert (row["bbox"], row["score"]) == (pose["bbox"], pytest.approx(pose["score"], abs=2e-3))
                assert (row["width"], row["height"]) == (answer["image"]["width"], answer["image"]["height"])
        service.close(5)

    asyncio.run(ask())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert annotate.main([*command, *TORCH]) == 0, "there is nothing left to do"
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert annotate.main([*command, *TORCH, "--precision", "bf16"]) == 2
    assert "was begun with precision 'fp32', and this is 'bf16'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "found_by"),
    [
        ([], ("embedded", 0.3)),
        (["--min-pose-score", "0.5"], ("embedded", 0.5)),
        (["--detector", "none", "--min-pose-score", "0.5"], ("none", 0.0)),
    ],
)
def test_persons_are_found_as_the_service_finds_them_unless_there_are_boxes(tmp_path, monkeypatch, given, found_by):
    made = []

    def remember(job):
        made.append((job.detector, job.min_pose_score))
        raise JobFailed("seen enough")

    monkeypatch.setattr(annotate, "LocalPool", lambda jobs: remember(jobs[0]))
    draw_folder(tmp_path / "in", 1)
    command = [str(tmp_path / "in"), "--format", "json", *given]
    assert annotate.main([*command, "--out", str(tmp_path / "out")]) == 1
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"images": [{"id": 1, "file_name": "p0000.jpg"}], "annotations": []}))
    assert annotate.main([*command, "--out", str(tmp_path / "boxed"), "--boxes", str(boxes)]) == 1
    assert made == [found_by, ("none", 0.0)]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--min-pose-score", "1.5"], "--min-pose-score is 1.5; allowed: 0 to 1"),
        (["--min-pose-score", "nan"], "--min-pose-score is nan; allowed: 0 to 1"),
        (["--workers", "-1"], "--workers -1 --threads 0; allowed: 0 or more"),
    ],
)
def test_options_that_do_not_work(given, complaint, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        annotate.main([str(tmp_path), "--out", str(tmp_path / "out"), *given])
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_both_formats_have_the_same_rows(tmp_path):
    row = {"image": "a", "image_id": 1, "width": 2, "height": 3, "category_id": 1, "bbox": [0.0, 0.0, 1.0, 2.0]}
    row |= {"score": 0.25, "keypoints": list(np.arange(51) / 8)}
    (tmp_path / "rows").write_bytes(encoded([row], "parquet"))
    assert parquet.read_table(tmp_path / "rows").to_pylist() == json.loads(encoded([row], "json")) == [row]
    empty = pa.BufferReader(encoded([], "parquet"))
    assert parquet.read_table(empty).num_rows == len(json.loads(encoded([], "json"))) == 0


@pytest.mark.slow
def test_a_killed_process_loses_nothing_and_does_nothing_twice(tmp_path, tiny):
    draw_folder(tmp_path / "in", 240, bad=6)
    out = tmp_path / "out"
    command = [str(tmp_path / "in"), "--out", str(out), "--checkpoint", str(tiny), "--format", "json", *TORCH]
    given = annotate.read_arguments([*command, "--shard-size", "20", "--workers", "2"])
    asked = settings(sources=tuple(given.sources), shard_size=20)
    plan = make_plan(Folder(given.out), asked, None, print)
    pool = LocalPool(annotate.jobs(given, asked))
    finished = []
    for told in pool.run(range(plan.shards)):
        if isinstance(told, Finished):
            finished.append(told.manifest["shard"])
            if len(finished) == 2:
                os.kill(pool.pids[0], signal.SIGKILL)
    assert sorted(finished) == list(range(plan.shards))
    counted = annotate.summary(Folder(given.out), plan)
    assert (counted["done"], counted["answered"], counted["failed"]) == (246, 240, {"not_an_image": 6})
    found = Counter(row["image"] for row in rows_of(out)) + Counter(error["image"] for error in errors_of(out))
    assert set(found.values()) == {1}
    assert len(found) == 246
    assert not list((out / "attempts").iterdir())


def test_a_job_that_cannot_begin_says_why(tmp_path, tiny):
    job = annotate._job(
        annotate.read_arguments(["in", "--out", str(tmp_path), "--format", "json"]), settings(), device="cpu", threads=1
    )
    bad = LocalPool([job.__class__(**{**job.__dict__, "checkpoint": tmp_path / "none.safetensors"})])
    with pytest.raises(JobFailed, match=r"none\.safetensors"):
        list(bad.run([0]))


@pytest.mark.parametrize(("todo", "left", "started"), [([7, 8], [8, 7], 1), ([], [], 0)])
def test_a_process_that_dies_after_it_told_of_a_shard_loses_neither_it_nor_the_next(monkeypatch, todo, left, started):
    ours, theirs = Pipe()
    theirs.send(Finished({"shard": 6}))
    theirs.close()
    pool, begun, shards = LocalPool([]), [], deque(todo)
    job = annotate._job(annotate.read_arguments(["in", "--out", "out"]), settings(), device="cpu", threads=1)
    dead = SimpleNamespace(pid=1, join=lambda _: None)
    worker = annotate_pool._Worker(process=dead, connection=ours, job=job, shard=6, ready=True)
    pool._workers.append(worker)
    monkeypatch.setattr(pool, "_start", begun.append)
    with ours:
        assert [one.manifest for one in pool._hear(worker, shards)] == [{"shard": 6}]
    assert (list(shards), begun, pool.pids) == (left, [job] * started, [])


def test_progress_is_told_in_pictures_a_second_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(annotate_progress, "time", SimpleNamespace(monotonic=lambda: 1100.0))
    bar = Bar(total=1_000_000, before=500_000, failed=2, started_s=1000.0)
    bar.hear(annotate_pool.Progress(4_000))
    bar.hear(Finished({"pictures": 5_000, "failed": {"not_an_image": 1}}))
    bar.show(now=True)
    said = capsys.readouterr().err
    assert "505,000 of 1,000,000 pictures (50.5 %), 50.0 a second" in said
    assert "2.7 h left, 3 failed" in said or "2.8 h left, 3 failed" in said


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_ray_data_does_the_same_work(tmp_path, tiny):
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    draw_folder(tmp_path / "in", 60, bad=4)
    command = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--checkpoint", str(tiny), "--format", "json"]
    assert annotate.main([*command, "--shard-size", "10", "--ray", "local", "--workers", "1", *TORCH]) == 0
    found = Counter(row["image"] for row in rows_of(tmp_path / "out"))
    assert len(found) == 60
    assert set(found.values()) == {1}
    assert len(errors_of(tmp_path / "out")) == 4


def test_an_item_is_the_same_when_it_is_read_again():
    for item in (Item("ä b.jpg", 3), Item("x", 4, []), Item("y", 5, [(1.0, 2.5, 3.0, 4.0)])):
        assert Item.of(item.line()) == item
