"""The paper's tables as data, their commands as the commands read them, and the cards that belong to rows."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from drawings import lively_network, tiny_config
from model.checkpoint import read_card, save_checkpoint, write_card
from model.variants import VARIANTS, variant
from training import evaluate, pretrain, train
from training.tables import main
from training.tables_cards import ancestors, belongs, measurements, read_cards
from training.tables_commands import FullScale, in_lines, row_commands
from training.tables_paper import REFERENCES, ROWS, TABLES, chosen_rows

PAPER = Path(__file__).parents[1].parent / "shared" / "reference" / "paper.md"
DINO = {"task": "self-supervised (DINO)"}


def test_every_row_is_in_a_table_and_names_a_variant():
    assert set(ROWS) == {key for table in TABLES.values() for key in table.keys}
    assert {row.variant for row in ROWS.values()} == set(VARIANTS)
    for row in ROWS.values():
        assert row.dino == ("Dino" in row.label)
        assert 0.5 < row.ap < row.ar < 0.9


def test_figures_are_those_of_the_paper():
    if not PAPER.exists():
        pytest.skip(f"the paper's text is not at {PAPER}")
    text = PAPER.read_text()
    for row in (*ROWS.values(), *REFERENCES):
        ap, ar = f"{100 * row.ap:.1f}", f"{100 * row.ar:.1f}"
        if getattr(row, "loss", "mse") == "sinkhorn":
            assert f"the AP is {ap} and AR is {ar}" in text
            continue
        label = row.label.replace("TransPose", "Transpose")
        found = re.findall(rf"^{re.escape(label)}(?: \[\d+\]| \(this study\))?\t([\d.]+)\t([\d.]+)", text, re.MULTILINE)
        assert found, row.label
        assert set(found) == {(ap, ar)}, row.label


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.key)
def test_commands_are_understood_and_train_the_row(row):
    commands = row_commands(row, FullScale(coco=Path("my coco"), position="absolute"))
    shown = {what: shlex.split(in_lines(command, 100).replace("\\\n", "")) for what, command in commands.items()}
    assert shown == {what: list(command) for what, command in commands.items()}
    arguments = {what: command[3:] for what, command in commands.items()}
    settings = train.parse_settings(arguments["train"])
    assert (settings.variant, settings.loss, settings.position) == (row.variant, row.loss, "absolute")
    assert (settings.input_hw, settings.epochs, settings.batch_size) == ((256, 192), 230, 16)
    assert (settings.learning_rate, settings.learning_rate_end) == (1e-4, 1e-5)
    assert ("pre-train" in arguments) == row.dino == (settings.init is not None)
    if row.dino:
        before, _ = pretrain.parse_settings(arguments["pre-train"])
        assert (before.variant, before.position, before.epochs, before.local_views) == (row.variant, "absolute", 300, 0)
        assert settings.init == before.run_dir / "dino.safetensors"
    for boxes in ("gt", "detections"):
        given = evaluate.build_parser().parse_args(arguments[f"evaluate, boxes {boxes}"])
        assert given.checkpoint == settings.run_dir / "best.safetensors"
        assert (given.detections is not None) == (boxes == "detections")
        assert given.flip_test


def test_rows_of_several_tables_come_once_and_unknown_ones_are_refused():
    assert [row.key for row in chosen_rows([3, 1], None)] == ["c3a1-4", "c3a1-8", "c3a1-4-dino", "c3a1-8-dino"]
    assert [row.key for row in chosen_rows([2], ["c3a1-4", "c2a1-4"])] == ["c2a1-4", "c3a1-4"]
    with pytest.raises(ValueError, match="row is 'c3a1-8'; allowed: c3a1-4-dino, c3a1-4-dino-n6"):
        chosen_rows([4], ["c3a1-8"])


@pytest.fixture
def checkpoint(tmp_path):
    """A measured checkpoint; its card may then be given another training."""
    path = tmp_path / "runs" / "any name.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={"task": "keypoints", "initialised_from": None})
    measured = {"AP": 0.5, "AR": 0.6, "boxes": "gt", "annotations": "a/b/dev.json", "images": 7}
    metrics = [measured | {"flip_test": flip, "AP": ap} for flip, ap in ((False, 0.4), (True, 0.5), (True, 0.3))]
    card = read_card(path)
    write_card(path, replace(card, config=variant("c3a1-4", input_hw=(64, 48)), metrics=metrics))
    return path


def told(path, **training):
    write_card(path, replace(read_card(path), training={"task": "keypoints", **training}))
    return read_card(path)


@pytest.mark.parametrize(
    ("training", "keys"),
    [
        ({}, ["c3a1-4"]),
        ({"loss": "mse", "initialised_from": None}, ["c3a1-4"]),
        ({"initialised_from": {"task": "keypoints", "initialised_from": None}}, ["c3a1-4"]),
        ({"loss": "mse", "initialised_from": DINO}, ["c3a1-4-dino"]),
        ({"loss": "mse", "initialised_from": {"task": "keypoints", "initialised_from": DINO}}, ["c3a1-4-dino"]),
        ({"loss": "sinkhorn", "initialised_from": DINO}, ["c3a1-4-dino-sinkhorn"]),
        ({"loss": "sinkhorn", "initialised_from": None}, []),
        ({"loss": "mse", "initialised_from": {"task": "ResNet of unknown training"}}, []),
    ],
)
def test_a_checkpoint_belongs_to_a_row_by_what_its_card_says(checkpoint, training, keys):
    card = told(checkpoint, **training)
    assert [key for key, row in ROWS.items() if belongs(row, card)] == keys


def test_ancestors_are_told_the_latest_first():
    assert ancestors({"initialised_from": {"task": "keypoints", "initialised_from": DINO}}) == [
        "keypoints",
        "self-supervised (DINO)",
    ]


def test_measurements_have_their_protocol_and_come_once_for_each(checkpoint, tmp_path):
    (tmp_path / "runs" / "settings.json").write_text("{}")
    (tmp_path / "runs" / "notes.json").write_text("not JSON")
    found = measurements(ROWS["c3a1-4"], read_cards(tmp_path))
    assert [(one.flip_test, one.ap) for one in found] == [(False, 0.4), (True, 0.5)]
    assert {(one.boxes, one.annotations, one.images, one.input_hw) for one in found} == {
        ("gt", "a/b/dev.json", 7, (64, 48))
    }
    assert measurements(ROWS["c3a1-8"], read_cards(tmp_path)) == []


def test_the_listing_fits_a_terminal_and_has_ours_beside_the_papers(checkpoint, capsys):
    folder = str(checkpoint.parent)
    assert main(["--table", "2", "--checkpoints", folder]) == 0
    said = capsys.readouterr().out
    assert "Table 2" in said
    assert "Table 1" not in said
    assert "ours: AP 50.0, AR 60.0, boxes gt, flip test, 64x48" in said
    assert "python -m" not in said
    assert main(["--commands", "--checkpoints", folder]) == 0
    said = capsys.readouterr().out
    assert said.count("python -m training.train ") == len(ROWS), "each row's commands once"
    lines = [line for line in said.splitlines() if folder not in line]
    assert max(map(len, lines)) <= 100
    assert all(label in said for label in ("HRNet-W48", "TransPose-H-A6", "detections; gt: 78.1"))


def test_the_listing_as_markdown_and_json(checkpoint, tmp_path, capsys):
    out = tmp_path / "new" / "tables.json"
    given = ["--markdown", "--json", str(out), "--table", "2", "3", "--checkpoints", str(checkpoint.parent)]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "| `c3a1-8` | C3A1(8) | 10.1 M | 75.3 | 78.1 | gt | - |" in said
    stored = json.loads(out.read_text())
    assert [(row["table"], row["key"]) for row in stored["rows"]] == [
        *((2, key) for key in TABLES[2].keys),
        *((3, key) for key in TABLES[3].keys),
    ]
    assert stored["references"] == []
    (row,) = (row for row in stored["rows"] if (row["table"], row["key"]) == (2, "c3a1-4"))
    assert row["published"] == {"AP": 0.751, "AR": 0.778, "boxes": "gt", "data": "COCO val2017"}
    assert [one["ap"] for one in row["measured"]] == [0.4, 0.5]
    assert shlex.split(row["commands"]["train"])[:3] == ["python", "-m", "training.train"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--rows", "c9"], "row is 'c9'; allowed: c3a1-4-dino, c2a1-4"),
        (["--checkpoints", "nowhere"], "checkpoints is nowhere, which is not a folder"),
        (["--report", "--runs-dir", "nowhere"], "nowhere has no runs; start some with --run"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(given, message, capsys):
    assert main(given) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_run_needs_data_and_a_budget(capsys):
    with pytest.raises(SystemExit):
        main(["--run", "--budget", "100"])
    assert "--run needs --train, --val and --budget" in capsys.readouterr().err
