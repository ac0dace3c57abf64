"""`python -m service.client --dependency` and `--figure`: what is asked, printed and written, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from client_answers import SOME_PNG, Asked, StandIn, some_map
from client_servers import grpc_stand_in, http_stand_in
from pictures import jpeg
from service.client import main
from service.client_show import map_summary
from service.http_dependency import DependencyBody
from service.pb import pose_pb2 as pb

ROOT = Path(__file__).resolve().parents[1]
BOX = "[[1.5, 2, 30, 40]]"


@pytest.fixture(params=["http", "grpc"])
def server(request) -> Iterator[StandIn]:
    with (http_stand_in if request.param == "http" else grpc_stand_in)() as stand_in:
        yield stand_in


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg())
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def usage_error(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def words_of(asked: Asked) -> dict[str, str]:
    """What was asked, in the words of HTTP."""
    if asked.message is None:
        return {name: values[0] for name, values in parse_qs(urlsplit(asked.path).query).items()}
    told: pb.GetDependencyRequest = asked.message
    box = [told.box.x, told.box.y, told.box.width, told.box.height] if told.HasField("box") else None
    given = {
        "keypoint": told.keypoint,
        "box": None if box is None else json.dumps(box),
        "level": {1: "mhsa", 2: "encoder"}[told.level],
        "layer": told.layer if told.HasField("layer") else None,
        "head": "mean" if told.mean_of_heads else told.head if told.HasField("head") else None,
        "mode": {1: "dependency", 2: "affect"}[told.mode],
        "threshold": told.threshold or None,
        "colormap": told.colormap if told.format == pb.DEPENDENCY_FORMAT_PNG else None,
        "format": {1: "json", 2: "png"}[told.format],
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def test_a_summary_says_where_the_keypoint_is_and_where_it_looked(server, photo, capsys):
    assert run(photo, "--address", server.address, "--dependency", "left_wrist") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{photo}: left_wrist at 40.1, 20.2, confidence 0.875"
    assert lines[1] == "encoder layer 3, mean of heads, dependency; its token looked most at"
    assert lines[2].split() == ["x", "y", "attention"]
    places = [tuple(line.split()) for line in lines[3:]]
    assert len(places) == 5
    assert places[:2] == [("37.0", "9.5", "50.00", "%"), ("22.0", "29.5", "25.00", "%")]
    assert set(places[2:4]) == {("7.0", "69.5", "12.50", "%"), ("52.0", "69.5", "12.50", "%")}
    (asked,) = server.asked
    assert asked.image == photo.read_bytes()
    assert words_of(asked) == {"keypoint": "left_wrist", "level": "encoder", "mode": "dependency", "format": "json"}


def test_the_summary_of_the_other_direction_and_of_one_head():
    found = DependencyBody.of(some_map()).model_copy(update={"mode": "affect", "head": 2, "level": "mhsa"}).to_map()
    lines = map_summary("a.jpg", found).splitlines()
    assert lines[1] == "mhsa layer 3, head 2, affect; its token was looked at most from"


def test_json_is_what_the_service_answers_over_http_and_nothing_else(server, photo, tmp_path, capsys):
    figure = tmp_path / "figure.png"
    where = ("--address", server.address, "--dependency", "9", "--json")
    expected = DependencyBody.of(some_map()).model_dump_json()
    assert run(photo, photo, *where) == 0
    assert capsys.readouterr().out == f"{expected}\n{expected}\n"
    assert run(photo, *where, "--figure", figure) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert figure.read_bytes() == SOME_PNG


def test_the_overlay_is_written_as_it_was_asked_for(server, photo, tmp_path, capsys):
    out = tmp_path / "out.png"
    which = ("--level", "mhsa", "--layer", "1", "--head", "2", "--mode", "affect")
    drawn = ("--threshold", "0.25", "--colormap", "viridis", "--draw", out)
    assert run(photo, "--address", server.address, "--dependency", "left_wrist", "--boxes", BOX, *which, *drawn) == 0
    assert out.read_bytes() == SOME_PNG
    assert capsys.readouterr().out.startswith(f"{photo}: left_wrist at ")
    of_both = {
        "keypoint": "left_wrist",
        "box": "[1.5, 2.0, 30.0, 40.0]",
        "level": "mhsa",
        "layer": "1",
        "head": "2",
        "mode": "affect",
    }
    numbers, picture = map(words_of, server.asked)
    assert numbers == of_both | {"format": "json"}
    assert picture == of_both | {"threshold": "0.25", "colormap": "viridis", "format": "png"}


def test_the_figure_is_written_and_its_place_is_told(server, photo, tmp_path, capsys):
    out = tmp_path / "figure.png"
    assert run(photo, "--address", server.address, "--figure", out, "--level", "mhsa", "--head", "mean") == 0
    assert out.read_bytes() == SOME_PNG
    assert capsys.readouterr().out == f"{photo}: the figure of all keypoints is in {out}\n"
    (asked,) = map(words_of, server.asked)
    expected = {"keypoint": "all", "level": "mhsa", "head": "mean", "mode": "dependency"}
    assert asked == expected | {"colormap": "inferno", "format": "png"}


def test_a_map_its_picture_and_the_figure_in_one(server, photo, tmp_path):
    out, figure = tmp_path / "out.png", tmp_path / "figure.png"
    assert run(photo, "--address", server.address, "--dependency", "0", "--draw", out, "--figure", figure) == 0
    assert out.read_bytes() == figure.read_bytes() == SOME_PNG
    formats = [(words["keypoint"], words["format"]) for words in map(words_of, server.asked)]
    assert formats == [("0", "json"), ("0", "png"), ("all", "png")]


def test_an_error_of_the_service_is_told_and_the_other_pictures_are_shown(server, photo, tmp_path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not_an_image")
    assert run(bad, photo, "--address", server.address, "--dependency", "nose") == 1
    said = capsys.readouterr()
    assert said.err == f"{bad}: the picture is not_an_image\n"
    assert said.out.startswith(f"{photo}: left_wrist at ")


def test_of_a_picture_that_cannot_be_explained_nothing_is_written(server, tmp_path, capsys):
    bad, out = tmp_path / "bad.jpg", tmp_path / "out.png"
    bad.write_bytes(b"engine_failed")
    assert run(bad, "--address", server.address, "--figure", out) == 1
    assert capsys.readouterr().err == f"{bad}: the picture is engine_failed\n"
    assert not out.exists()


def test_options_that_make_no_sense_are_refused_before_anything_is_asked(server, photo, tmp_path, capsys):
    out = tmp_path / "out.png"
    common = (photo, "--address", server.address)
    both = ("--dependency", "nose")
    assert "keypoint is ''; allowed: the name of a keypoint" in usage_error(capsys, *common, "--dependency", "")
    assert "--dependency all: use --figure" in usage_error(capsys, *common, "--dependency", "all")
    assert "only beside --dependency" in usage_error(capsys, *common, "--figure", out, "--draw", out)
    assert "only beside --dependency" in usage_error(capsys, *common, "--figure", out, "--json")
    two = ("--boxes", "[[1, 2, 3, 4], [1, 2, 3, 4]]")
    assert "--boxes has 2 boxes; allowed with --dep" in usage_error(capsys, *common, *both, *two)
    assert "--boxes has 2 boxes" in usage_error(capsys, *common, "--figure", out, *two)
    assert "--flip-test goes with poses only" in usage_error(capsys, *common, *both, "--flip-test")
    assert "--figure takes one IMAGE" in usage_error(capsys, photo, *common, "--figure", out)
    assert "no such folder" in usage_error(capsys, *common, "--figure", tmp_path / "nowhere" / "out.png")
    assert "mhsa" in usage_error(capsys, *common, *both, "--level", "decoder")
    assert "affect" in usage_error(capsys, *common, *both, "--mode", "both")
    assert "nipy_spectral" in usage_error(capsys, *common, *both, "--colormap", "jet")
    assert "invalid int value: 'last'" in usage_error(capsys, *common, *both, "--layer", "last")
    assert "'all' is no head; allowed: a number from 0, or mean" in usage_error(capsys, *common, *both, "--head", "all")
    assert "invalid float value" in usage_error(capsys, *common, *both, "--threshold", "half")
    assert not server.asked
    assert not out.exists()


def test_a_layer_that_cannot_be_is_told(server, photo, capsys):
    with pytest.raises(SystemExit) as caught:
        run(photo, "--address", server.address, "--dependency", "nose", "--layer", "-1")
    assert caught.value.code == 2
    assert "--layer is -1; allowed: a number from 0" in capsys.readouterr().err
    assert not server.asked


@pytest.mark.parametrize("option", [("--level", "mhsa"), ("--layer", 0), ("--head", "mean"), ("--threshold", 0.5)])
def test_options_of_maps_without_a_map_are_not_passed_over(option, server, photo, capsys):
    with pytest.raises(SystemExit) as caught:
        run(photo, "--address", server.address, *option)
    assert caught.value.code == 2
    assert "go with --dependency and --figure" in capsys.readouterr().err
    assert not server.asked


def test_a_place_that_cannot_be_written_is_told(server, photo, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(photo, "--address", server.address, "--figure", tmp_path)  # a folder
    assert caught.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("what", [("--dependency", "nose"), ()], ids=["map", "poses"])
def test_when_nobody_reads_on_it_ends_without_a_word(photo, what):
    reading, writing = os.pipe()
    os.close(reading)
    with http_stand_in() as server, os.fdopen(writing, "wb") as stdout:
        command = [sys.executable, "-m", "service.client", str(photo), "--address", server.address, *what]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        said = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, **said)
        assert server.asked
    assert (done.returncode, done.stderr) == (1, "")
