"""The tables of bench/, and what is read from a service for them. Figures are measured there, never asserted here."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from http_clients import make_counted, served
from model.checkpoint import read_card
from pictures import jpeg
from service.settings import BUNDLED_CHECKPOINT
from training.coco import read_persons

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))  # no package: its scripts import each other by name
drawn, drawn_coco, feeding, load, results, server, timing, watch = map(
    importlib.import_module, ("drawn", "drawn_coco", "feeding", "load", "results", "server", "timing", "watch")
)

CROP = "x".join(map(str, read_card(BUNDLED_CHECKPOINT).config.input_hw))
# Every script with the least that it can measure, and the tables that it writes.
SCRIPTS = {
    "clients": (["--rounds", "1", "--seconds", "0.1", "--clients", "1", "3"], [f"clients-{CROP}"]),
    "loader": (
        ["--input", "64x48", "--batch-size", "2", "--workers", "0", "1", "--photographs", "5", "--seconds", "0.01"],
        ["loader-64x48", "loader-stages", "loader-views-64x48", "loader-views-stages"],
    ),
    "rates": (["--seconds", "2", "--percent", "90"], [f"rates-{CROP}"]),
    "serving": (["--rounds", "1", "--seconds", "0.1"], [f"crowds-{CROP}", f"health-{CROP}", f"idle-{CROP}"]),
    "sizes": (["--rounds", "1", "--seconds", "0.1", "--persons", "1", "40"], [f"persons-{CROP}", f"pixels-{CROP}"]),
    "stages": (["--seconds", "0.01"], ["heatmaps", "pictures"]),
}


def test_a_table_is_text_and_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench/x.py", "--rounds", "2", "--results", str(tmp_path), "--seed", "1"])
    table = results.Table("some", "A title", ["what", "ms"])
    table.add("one", 1.5)
    with pytest.raises(ValueError, match="1 cells; allowed: 2"):
        table.add("two")
    table.write(tmp_path)
    printed = "A title\n\n| what | ms |\n| --- | --- |\n| one | 1.5 |\n"
    assert capsys.readouterr().out == "\n" + printed
    content = json.loads((tmp_path / "some.json").read_text())
    assert content["rows"] == [{"what": "one", "ms": "1.5"}]
    assert content["command"] == "python bench/x.py --rounds 2 --seed 1"
    assert content.keys() == {"title", "date", "command", "machine", "rows"}
    text = (tmp_path / "some.md").read_text()
    assert text.startswith(printed)
    assert content["machine"] in text


def test_without_a_folder_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results.Table("some", "A title", ["what"]).write(None)
    assert not list(tmp_path.iterdir())


def test_percentiles():
    values = [float(value) for value in range(100, 0, -1)]
    assert [timing.percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 51, 100, 100]
    assert math.isnan(timing.percentile([], 0.5))
    assert timing.in_ms([0.0125]) == ["12.5"] * 3


def test_drawn_pictures_have_the_size_that_was_asked_for(tmp_path):
    for size in ((40, 30), (2100, 20)):
        path = tmp_path / "drawn.jpg"
        path.write_bytes(drawn.drawn_jpeg(*size))
        with Image.open(path) as image:
            assert image.size == size


def test_a_crowd_lies_in_the_picture_side_by_side():
    boxes = drawn.crowd_boxes(40, width=640, height=480)
    assert len({(x, y) for x, y, _, _ in boxes}) == 40
    assert all(x + w <= 640 and y + h <= 480 for x, y, w, h in boxes)
    assert drawn.pose_path([[1, 2, 3, 4]]) == "/pose?boxes=%5B%5B1%2C%202%2C%203%2C%204%5D%5D"
    with pytest.raises(ValueError, match="persons is 41; allowed: 1 to 40"):
        drawn.crowd_boxes(41, width=640, height=480)


def test_drawn_annotations_are_of_cocos_layout():
    with drawn_coco.drawn_coco(6) as (annotations, images):
        persons = read_persons(annotations, images).persons
        assert len(persons) == sum(drawn_coco.PERSONS) + 1
        assert all(person.image_path.exists() for person in persons)
        assert all((person.box_xywh[:2] + person.box_xywh[2:] <= (640, 480)).all() for person in persons)
    assert not images.exists()


class Clock:
    """Goes on only where it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def perf_counter(self):
        return self.seconds


def test_what_training_waits_for_is_told_apart_from_its_steps(monkeypatch):
    clock, seen = Clock(), []
    monkeypatch.setattr(feeding, "time", clock)

    class Loader:
        """Two batches an epoch, each a second late."""

        def epoch(self, number):
            for _ in range(2):
                clock.seconds += 1
                yield number

    def step(example):
        clock.seconds += 3
        seen.append(example)

    per_s, share = feeding.fed(Loader(), step, seconds=20.0)
    assert seen == [0, 0, 1, 1, 2, 2]  # one to warm up, and then 20 seconds
    assert (per_s, share) == (0.25, 0.25)


def test_a_service_is_watched_from_outside():
    service, metrics = make_counted(max_batch=4)

    async def run() -> tuple[str, object]:
        async with served(service, metrics) as port:
            client = load.HttpClient("127.0.0.1", port)
            await client.post("/pose", jpeg())  # before, and so not counted

            async def asking() -> str:
                for _ in range(3):
                    await client.post(drawn.pose_path([[5, 5, 40, 40]] * 2), jpeg())
                return "done"

            of = server.Server(
                http_port=port,
                grpc_port=0,
                pid=os.getpid(),
                checkpoint=Path(),
                max_batch=4,
                serves="nothing",
                crop="8x6",
            )
            found = await watch.watched(of, asking())
            client.close()
        return found

    result, seen = asyncio.run(run())
    assert result == "done"
    assert seen.persons_a_batch == 2
    assert 0 < seen.busy <= 1
    assert seen.stage_ms.keys() == {"read", "decode", "queue", "engine"}
    assert all(ms >= 0 for ms in seen.stage_ms.values())
    assert 0 < seen.pss_mib <= seen.rss_mib


def test_a_process_that_has_ended_is_told():
    with pytest.raises(RuntimeError, match="process 999999999 has ended"):
        watch.memory_mib(999_999_999)


@pytest.mark.parametrize("name", [*SCRIPTS, "engine", "soak"])
def test_every_script_says_what_it_does(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"bench/{name}.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(name).main()
    assert stop.value.code == 0
    assert "--results" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_writes_its_tables(name, tmp_path, monkeypatch):
    options, tables = SCRIPTS[name]
    monkeypatch.setattr(sys, "argv", [f"bench/{name}.py", *options, "--results", str(tmp_path)])
    importlib.import_module(name).main()
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == tables
    for path in tmp_path.glob("*.json"):
        assert all("nan" not in cell for row in json.loads(path.read_text())["rows"] for cell in row.values())
