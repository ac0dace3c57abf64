"""`python -m service.client`: what it prints, what it draws, and how it fails."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client_answers import StandIn, some_poses
from client_servers import grpc_stand_in, http_stand_in
from model.drawing import LEFT_RGB, MIDDLE_RGB, RIGHT_RGB
from pictures import SIZE, jpeg, with_orientation
from service.client import main
from service.http_schemas import PosesBody

ROOT = Path(__file__).resolve().parents[1]
BOXES = [[1.5, 2, 30, 40], [0, 0, 60, 80]]


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


def test_a_table_of_each_persons_keypoints_is_printed(server, photo, capsys):
    assert run(photo, "--address", server.address, "--boxes", json.dumps(BOXES), "--flip-test") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{photo}: 60 x 80 pixels, 2 persons"
    assert lines[2] == "person 1, score 0.875, box 1.5 2 30 40"
    assert lines[3].split() == ["keypoint", "x", "y", "confidence"]
    x, y, score = some_poses([tuple(BOXES[0])]).poses[0].keypoints[0]
    assert lines[4].split() == ["nose", f"{x:.2f}", f"{y:.2f}", f"{score:.3f}"]
    assert lines[20].split()[0] == "right_ankle"
    assert lines[22].startswith("person 2")
    asked = server.asked[0]  # then, over HTTP, which keypoints these are
    assert (asked.image, asked.boxes, asked.flip_test) == (photo.read_bytes(), [tuple(box) for box in BOXES], True)


def test_json_is_what_the_service_answers_over_http_one_line_for_each_picture(server, photo, capsys):
    assert run(photo, photo, "--address", server.address, "--json") == 0
    expected = PosesBody.of(some_poses()).model_dump_json()
    assert capsys.readouterr().out == f"{expected}\n{expected}\n"
    assert json.loads(expected)["poses"][0]["category_id"] == 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_skeleton_is_drawn_on_the_upright_picture(server, tmp_path, orientation):
    photo, out = tmp_path / "photo.jpg", tmp_path / "out.png"
    photo.write_bytes(with_orientation(orientation))
    assert run(photo, "--address", server.address, "--draw", out) == 0
    with Image.open(io.BytesIO(out.read_bytes())) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        pixels = np.asarray(picture)
    assert pixels.shape == (8 * SIZE[1], 8 * SIZE[0], 3), "enlarged, so that joints can be told apart"
    for color in (LEFT_RGB, RIGHT_RGB, MIDDLE_RGB):
        assert (pixels == color).all(axis=2).any()
    x, y, _ = some_poses().poses[0].keypoints[0]
    assert tuple(pixels[round((y + 0.5) * 8 - 0.5), round((x + 0.5) * 8 - 0.5)]) == MIDDLE_RGB


def test_the_key_is_read_from_its_file(server, photo, tmp_path):
    key = tmp_path / "key"
    key.write_text("sesame-open-thyself\n")
    assert run(photo, "--address", server.address, "--api-key-file", key) == 0
    assert server.asked[0].headers["x-api-key"] == "sesame-open-thyself"


def test_an_error_of_the_service_is_told_and_the_other_pictures_are_shown(server, photo, tmp_path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not_an_image")
    assert run(bad, photo, "--address", server.address) == 1
    said = capsys.readouterr()
    assert said.err == f"{bad}: the picture is not_an_image\n"
    assert said.out.startswith(f"{photo}: 60 x 80 pixels, 1 person\n")


def test_without_a_service_the_address_is_named_once_and_nothing_is_printed(photo):
    command = [sys.executable, "-m", "service.client", photo, photo, "--address", "http://127.0.0.1:1"]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{photo}: cannot connect to http://127.0.0.1:1")


def test_a_bad_command_line_is_refused_before_anything_is_asked(server, photo, tmp_path, capsys):
    address = ("--address", server.address)
    missing = tmp_path / "missing.jpg"
    assert str(missing) in usage_error(capsys, photo, missing, *address)
    assert "is not JSON" in usage_error(capsys, photo, *address, "--boxes", "[[1,2")
    assert "boxes[0]" in usage_error(capsys, photo, *address, "--boxes", "[[1, 2, 3]]")
    assert "is empty" in usage_error(capsys, photo, *address, "--boxes", "[]")
    assert "one IMAGE" in usage_error(capsys, photo, photo, *address, "--draw", tmp_path / "out.png")
    assert "no such folder" in usage_error(capsys, photo, *address, "--draw", tmp_path / "nowhere" / "out.png")
    assert "above 0" in usage_error(capsys, photo, *address, "--timeout-s", "0")
    assert "allowed: http://" in usage_error(capsys, photo, "--address", "ftp://host")
    assert "missing.jpg" in usage_error(capsys, photo, *address, "--api-key-file", missing)
    assert "missing.jpg" in usage_error(capsys, photo, "--address", "https://127.0.0.1:1", "--ca-cert", missing)
    assert not server.asked
