"""Runs read back and drawn: words, charts, comparisons, the command."""

import json

import cv2
import numpy as np
import pytest

from training.curves import PALETTE
from training.dino_settings import PretrainSettings
from training.run_record import PRETRAINING, RunError, headline, in_words, read_record, read_records
from training.settings import TrainSettings
from training.summary import draw_comparison, draw_summary, main, write_summary

CARD = {
    "training": {
        "data": [{"annotations": "coco/annotations/train.json", "photographs": 2312, "persons": 6148}],
        "chosen_on": {"annotations": "coco/annotations/dev.json", "photographs": 200, "persons": 646},
        "precision": "bfloat16",
        "initialised_from": None,
    }
}


def pose_rows(epochs, ap=0.1):
    return [
        {"epoch": n, "loss": 0.01 / n, "images_per_s": 100.0 * n, "val_AP": ap * (n % 3), "device": "CPU"}
        for n in range(1, epochs + 1)
    ]


@pytest.fixture
def made(tmp_path):
    """A function that writes the folder of a run."""

    def make(name="run", rows=None, *, kind="best", card=CARD, **changes):
        given = {"run_dir": tmp_path / name, "epochs": 5} | changes
        if kind == "best":
            data = {"train_sets": ((tmp_path / "train.json", tmp_path),), "val_set": (tmp_path / "dev.json", tmp_path)}
            settings = TrainSettings(**(data | given))
        else:
            settings = PretrainSettings(images=(tmp_path,), device="cpu", **given)
        settings.run_dir.mkdir(parents=True)
        (settings.run_dir / "settings.json").write_text(json.dumps(settings.to_json()))
        rows = pose_rows(4) if rows is None else rows
        (settings.run_dir / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if card:
            (settings.run_dir / f"{kind}.json").write_text(json.dumps(card))
        return settings.run_dir

    return make


def words(run_dir):
    return "\n".join(", ".join(facts) for facts in in_words(read_record(run_dir)))


def test_a_run_is_told_in_words(made):
    said = words(made(warmup_epochs=0.5, clip_norm=2.0, batch_size=24))
    for fact in (
        "C3A1(4), relative positions, crops of 256x192, sigma 2, dropout 0.1, from random weights",
        "trained on 6,148 persons in 2,312 photographs of train.json, validated on 646 persons of dev.json (boxes gt)",
        "loss mse, Adam 0.0001 to 1e-5, cosine, warm-up of 0.5 epochs, batches of 24, gradients clipped to 2, seed 0",
        "half body 0.3, scale 0.35, rotation 45° (probability 0.6), flip 0.5, bfloat16 on CPU, 300 images/s",
    ):
        assert fact in said
    assert headline(read_record(made("again"))) == "again: best AP 0.200 (epoch 2), 4 of 5 epochs"


def test_no_folder_of_the_machine_is_named(made, tmp_path):
    for card in (CARD, None):
        assert str(tmp_path.parent) not in words(made(f"with-{bool(card)}", card=card))
    assert "trained on train.json, validated on dev.json" in words(tmp_path / "with-False")


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"task": "keypoints", "input_hw": [64, 48]}, "from keypoints"),
        ({"format": "resnet"}, "from resnet"),
        ({}, "from other weights"),
    ],
)
def test_where_the_weights_came_from_is_told(made, before, said):
    card = {"training": CARD["training"] | {"initialised_from": before}}
    assert said in words(made(card=card))


def test_pretraining_is_told_in_words(made):
    rows = [{"epoch": 1, "loss": 5.0, "entropy": 4.0, "divergence": 1.0, "knn": 0.5}]
    card = {"training": {"data": {"views_of": 1234}, "precision": "float32"}}
    run_dir = made(kind=PRETRAINING, rows=rows, card=card, warmup_epochs=1.0)
    said = words(run_dir)
    for fact in (
        "DINO with 2 views of 256x192, 2 of 128x96, 1,024 prototypes, head of 3 layers",
        f"1,234 pictures of {run_dir.parent.name}",
        "warm-up of 1 epoch,",
        "temperatures 0.1 and 0.04 to 0.04",
        "areas 0.4 to 1 and 0.05 to 0.4",
        "float32 on cpu",
    ):
        assert fact in said
    assert headline(read_record(run_dir)) == "run: 1 of 5 epochs"
    assert draw_summary(read_record(run_dir), None).shape[2] == 3


def test_the_log_may_have_been_cut_off_and_continued(made):
    run_dir = made(rows=[*pose_rows(3), {"epoch": 2, "loss": 7.0}])
    with (run_dir / "log.jsonl").open("a") as log:
        log.write('{"epoch": 4, "lo')
    record = read_record(run_dir)
    assert [row["epoch"] for row in record.rows] == [1, 2, 3]
    assert record.values("loss") == ([1, 2, 3], [0.01, 7.0, pytest.approx(0.01 / 3)])
    assert record.values("val_AP")[0] == [1, 3]


def test_a_run_that_has_only_begun_is_drawn(made):
    run_dir = made(rows=[], card=None)
    (run_dir / "log.jsonl").unlink()
    record = read_record(run_dir)
    assert headline(record) == "run: 0 of 5 epochs"
    assert draw_summary(record, None).ndim == 3


def test_samples_stand_below_the_charts_as_wide_as_fits(made):
    record = read_record(made())
    without = draw_summary(record, None)
    for width in (100, 700, 4000):
        samples = np.full((60, width, 3), (255, 0, 0), dtype=np.uint8)
        picture = draw_summary(record, samples)
        assert picture.shape[1] == without.shape[1]
        red = np.nonzero((picture == (255, 0, 0)).all(axis=-1))
        assert red[0].min() > without.shape[0] - 40
        assert np.ptp(red[1]) + 1 in (300, 700, without.shape[1] - 48)


def test_a_comparison_has_a_line_for_each_run_and_says_what_differs(made):
    records = [
        read_record(made(name, pose_rows(4, ap), learning_rate=rate))
        for name, ap, rate in (("a", 0.1, 1e-3), ("b", 0.2, 2e-3))
    ]
    picture = draw_comparison(records)
    for color in PALETTE[:2]:
        assert (picture == color).all(axis=-1).sum() > 100
    from training import summary

    assert summary._differences(records[0], records) == "; learning_rate 0.001"
    common = summary._common(records)
    assert "batches of 16" in common
    assert "Adam" not in common


def test_settings_that_are_no_arms_of_a_trial_are_not_told(made):
    from training import summary

    records = [read_record(made("a", workers=1)), read_record(made("b", workers=3, init=made("c") / "x.safetensors"))]
    assert [summary._differences(record, records) for record in records] == ["; init none", "; init x.safetensors"]


def test_runs_of_two_kinds_are_not_compared(made, capsys):
    folders = [str(made("a")), str(made("b", kind=PRETRAINING))]
    assert main(folders) == 2
    assert "nothing in common; allowed: either kind" in capsys.readouterr().err


def test_the_command_draws_beside_the_product_or_where_it_is_told(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = made("a"), made("b")
    assert main([str(one)]) == 0
    assert capsys.readouterr().out == f"{one / 'best.png'}\n"
    assert main([str(one), "--out", "drawn.png"]) == 0
    assert main([str(one), str(other)]) == 0
    for path in (one / "best.png", tmp_path / "drawn.png", tmp_path / "comparison.png"):
        assert cv2.imread(str(path)).shape[1] > 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not the folder of a run: No such file"),
        ("{", "is not JSON"),
        ("[]", "no `epochs`"),
        ("{}", "no `epochs`"),
    ],
)
def test_a_folder_that_is_not_of_a_run_is_refused(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    assert main([str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(RunError):
        read_record(tmp_path)


def test_a_place_that_cannot_be_written_is_named(made, capsys):
    run_dir = made()
    assert main([str(run_dir), "--out", str(run_dir / "none" / "a.png")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_the_summary_shows_the_samples_that_the_run_kept(made):
    run_dir = made()
    plain = cv2.imread(str(write_summary(run_dir)))
    cv2.imwrite(str(run_dir / "samples.png"), np.zeros((80, 300, 3), dtype=np.uint8))
    assert cv2.imread(str(write_summary(run_dir))).shape[0] > plain.shape[0] + 80


def test_a_run_of_so_many_steps_has_the_epochs_that_they_begin(made):
    data = [{"annotations": "a.json", "photographs": 30, "persons": 64}]
    card = {"training": CARD["training"] | {"data": data}}
    record = read_record(made(card=card, steps=9, batch_size=16))
    assert record.epochs == 3, "four steps an epoch"
    assert read_record(made("untold", pose_rows(2), card={}, steps=9, batch_size=16)).epochs == 2


def test_runs_of_the_same_name_are_told_apart_by_the_folders_above(made):
    paths = [made(name) for name in ("one/seed-0/run", "two/seed-0/run")]
    assert [record.name for record in read_records(paths)] == ["one/seed-0/run", "two/seed-0/run"]
    assert [record.name for record in read_records([made("a"), made("b")])] == ["a", "b"]
