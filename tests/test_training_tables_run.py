"""Tables in small: budgets and plans, commands that end well, badly or too early, and what the report may say."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import statistics
import sys
from pathlib import Path

import pytest

from drawings import draw_coco
from model.variants import variant
from training import evaluate, pretrain, tables_runner, train
from training.dino_settings import PretrainSettings
from training.tables import main
from training.tables_comparison import ALL_COMPARISONS, Comparison, comparisons, difference, in_words, learning_in_words
from training.tables_compute import picture_flops, view_flops
from training.tables_paper import ROWS
from training.tables_plan import Sizes, Stage, check_arguments, plan_arms, plan_stages, read_sizes
from training.tables_protocol import Protocol
from training.tables_report import as_json, as_markdown, as_text
from training.tables_results import read_results
from training.tables_runner import Request, RunsLocked, StageRecord, extend_request, locked, read_record, run_arm

COSTS = {"c3a1-4": (100, 250), "c2a2-4": (80, 240), "c3a1-8": (100, 250)}
SIZES = Sizes(train_epoch=50, pretrain_epoch=20)


@pytest.fixture
def protocol(tmp_path) -> Protocol:
    return Protocol(
        train=(("train.json", "train"), ("more.json", "more")),
        val=("dev.json", "dev"),
        views=1605,
        pictures=650,
        input_hw=(96, 72),
        train_options="--dropout 0 --flip 0.25",
        pretrain_options="--local-views 3",
    )


def arms_of(protocol, *keys, same_compute=True):
    return plan_arms(protocol, [ROWS[key] for key in keys], COSTS, same_compute=same_compute)


def test_every_row_has_the_same_budget_and_the_third_arm_that_of_the_operations(protocol):
    arms = arms_of(protocol, "c3a1-4", "c3a1-4-dino", "c3a1-8", "c3a1-4-dino-sinkhorn")
    by_name = {arm.name: arm for arm in arms}
    assert list(by_name) == ["c3a1-4", "c3a1-4-same-compute", "c3a1-4-dino", "c3a1-8", "c3a1-4-dino-sinkhorn"]
    random, more, dino = by_name["c3a1-4"], by_name["c3a1-4-same-compute"], by_name["c3a1-4-dino"]
    assert random.steps == dino.steps == by_name["c3a1-8"].steps == 100
    assert (random.pictures, dino.pictures) == (0, 640)
    assert dino.flops == 640 * 250 + 1600 * 100
    assert more.steps == 200
    assert more.flops == dino.flops
    assert len(arms_of(protocol, "c3a1-4", "c3a1-4-dino", same_compute=False)) == 2
    assert len(arms_of(protocol, "c3a1-4", "c2a2-4")) == 2, "nothing was pre-trained"


def test_commands_are_understood_and_have_the_budget(protocol, tmp_path):
    (arm,) = arms_of(protocol, "c2a2-4-dino")
    first, second, third = plan_stages(arm, 7, protocol, SIZES, tmp_path, workers=2)
    assert [stage.module for stage in (first, second, third)] == [
        "training.pretrain",
        "training.train",
        "training.evaluate",
    ]
    before, _ = pretrain.parse_settings(first.arguments)
    assert (before.steps, before.batch_size, before.seed, before.workers) == (20, 32, 7, 2)
    assert (before.global_hw, before.local_hw, before.local_views) == ((96, 72), (48, 32), 3)
    assert (before.warmup_epochs, before.frozen_epochs) == (pytest.approx(0.1), pytest.approx(0.01))
    assert before.annotations == ((Path("train.json"), Path("train")), (Path("more.json"), Path("more")))
    settings = train.parse_settings(second.arguments)
    assert (settings.steps, settings.batch_size, settings.seed, settings.variant) == (100, 16, 7, "c2a2-4")
    assert settings.warmup_epochs == pytest.approx(0.05 * 100 / 50)
    assert (settings.input_hw, settings.dropout, settings.augmentation.flip) == ((96, 72), 0, 0.25)
    assert settings.train_sets == before.annotations
    assert settings.init == before.run_dir / "dino.safetensors"
    given = evaluate.build_parser().parse_args(third.arguments)
    assert given.checkpoint == settings.run_dir / "best.safetensors"
    assert (given.flip_test, given.baselines, given.detections) == (True, True, None)
    check_arguments(protocol, [arm])


def test_pre_training_is_shared_by_the_rows_of_a_variant_and_seed(protocol, tmp_path):
    plain, sinkhorn = arms_of(protocol, "c3a1-4-dino", "c3a1-4-dino-sinkhorn")

    def first(arm, seed):
        return plan_stages(arm, seed, protocol, SIZES, tmp_path, workers=1)[0].record

    assert first(plain, 0) == first(sinkhorn, 0) != first(plain, 1)


def test_a_protocol_survives_its_file_and_differences_are_named(protocol):
    stored = Protocol.from_json(json.loads(json.dumps(protocol.to_json())))
    assert stored == protocol
    changed = dataclasses.replace(protocol, views=3200, sigma=2.0)
    assert protocol.differences(changed) == ["views: 1605 -> 3200", "sigma: 1.5 -> 2.0"]


@pytest.mark.parametrize(("field", "value"), [("views", 15), ("pictures", 31)])
def test_a_budget_is_at_least_a_batch(protocol, field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}; allowed: at least one batch"):
        dataclasses.replace(protocol, **{field: value})


def test_examples_are_counted_as_the_commands_count_them(protocol, tmp_path):
    annotations, images = map(str, draw_coco(tmp_path, persons=12))
    drawn = dataclasses.replace(protocol, train=((annotations, images),) * 2, batch_size=5, pretrain_batch_size=7)
    assert read_sizes(drawn) == Sizes(4, 3)
    assert read_sizes(dataclasses.replace(drawn, pretrain_images=(images,), pretrain_batch_size=4)) == Sizes(4, 1)
    with pytest.raises(ValueError, match="batch_size is 25; allowed: at most the number of examples, 24"):
        read_sizes(dataclasses.replace(drawn, batch_size=25))


def test_a_picture_costs_what_its_views_cost():
    """Three views forward and backward, about three times a forward pass each; and two forward."""
    config = variant("c3a1-4", input_hw=(64, 48))
    view = view_flops(config)
    settings = PretrainSettings(run_dir=Path(), images=(Path(),), global_hw=(64, 48), local_hw=(64, 48), local_views=1)
    assert picture_flops(settings) / view == pytest.approx(3 + 2 / 3, rel=0.1)
    only_global = dataclasses.replace(settings, local_views=0)
    assert picture_flops(only_global) / view == pytest.approx(2 + 2 / 3, rel=0.1)


# ---- commands of their own process; json.tool is one that ends well for JSON, and badly for anything else


def stage_of(folder: Path, content: str, name: str = "train") -> Stage:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "given.json").write_text(content)
    return Stage(name=name, module="json.tool", arguments=(str(folder / "given.json"),), folder=folder)


def test_a_command_is_recorded_and_not_run_again(tmp_path):
    stage = stage_of(tmp_path / "arm", '{"a": 1}')
    out = io.StringIO()
    assert run_arm("one", [stage], threads=1, out=out)
    record = read_record(stage)
    assert (record.returncode, record.attempts) == (0, 1)
    assert record.command.startswith("python -m json.tool ")
    assert '"a": 1' in stage.log.read_text()
    assert run_arm("one", [stage], threads=1, out=out)
    assert read_record(stage) == record
    assert out.getvalue().splitlines()[-1] == "one: done before"


def test_a_command_that_fails_is_told_stops_its_arm_and_is_tried_again(tmp_path):
    broken, after = stage_of(tmp_path / "arm", "no JSON"), stage_of(tmp_path / "arm2", "{}", "evaluate")
    out = io.StringIO()
    assert not run_arm("one", [broken, after], threads=None, out=out)
    assert "one, train: FAILED (1): Expecting value: line 1 column 1 (char 0)" in out.getvalue()
    assert read_record(after) is None
    first_try = read_record(broken).seconds
    stage_of(tmp_path / "arm", "{}")
    assert run_arm("one", [broken, after], threads=None, out=out)
    assert [read_record(stage).attempts for stage in (broken, after)] == [2, 1]
    assert read_record(broken).seconds > first_try > 0  # of both tries


def test_a_command_that_is_cut_off_is_ended_and_recorded(tmp_path, monkeypatch):
    started = []

    def interrupt(process, *_):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(tables_runner, "_wait", interrupt)
    stage = Stage(
        name="train", module="timeit", arguments=("-n1", "-r1", "__import__('time').sleep(60)"), folder=tmp_path
    )
    with pytest.raises(KeyboardInterrupt):
        run_arm("one", [stage], threads=1, out=io.StringIO())
    assert started[0].poll() is not None
    assert read_record(stage).returncode is None


def test_progress_is_the_last_thing_that_was_said(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes("first\nepoch 1: 10%\repoch 1: 20% ü\r\n".encode())
    assert tables_runner.last_line(log) == "epoch 1: 20% ü"
    assert tables_runner.last_line(tmp_path / "none.log") == ""


def test_threads_are_given_to_the_command(tmp_path):
    code = "import os; print('threads', os.environ['OMP_NUM_THREADS'])"
    stage = Stage(name="train", module="timeit", arguments=("-n1", "-r1", code), folder=tmp_path)
    assert run_arm("one", [stage], threads=3, out=io.StringIO())
    assert "threads 3" in stage.log.read_text()


def test_a_folder_belongs_to_one_protocol_and_grows(protocol, tmp_path):
    first = Request(protocol, ("c3a1-4",), (0,), True, {"c3a1-4": (1, 2)})
    assert extend_request(tmp_path, first) == first
    more = Request(protocol, ("c2a2-4", "c3a1-4"), (1, 0), False, {"c2a2-4": (3, 4)})
    both = extend_request(tmp_path, more)
    assert both == Request(protocol, ("c3a1-4", "c2a2-4"), (0, 1), True, {"c3a1-4": (1, 2), "c2a2-4": (3, 4)})
    assert tables_runner.read_request(tmp_path) == both
    other = dataclasses.replace(first, protocol=dataclasses.replace(protocol, views=99))
    with pytest.raises(ValueError, match=r"another protocol: views: 1605 -> 99; allowed: the same one, or another"):
        extend_request(tmp_path, other)


def test_two_do_not_run_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(RunsLocked, match="another process is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


# ---- what may be said


def test_a_difference_is_taken_seed_by_seed_with_students_interval():
    found = difference({0: 0.5, 1: 0.7, 2: 0.6, 9: 0.1}, {0: 0.4, 1: 0.4, 2: 0.4})
    assert found.values == pytest.approx((0.1, 0.3, 0.2))
    assert (found.mean, found.spread) == (pytest.approx(0.2), pytest.approx(0.1))
    half = 4.303 * 0.1 / math.sqrt(3)
    assert found.interval == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert not found.claimed
    assert difference({0: 0.1}, {1: 0.1}) is None


def test_quantiles_are_students():
    stats = pytest.importorskip("scipy.stats")
    from training.tables_comparison import T95

    assert [round(float(stats.t.ppf(0.975, df)), 3) for df in range(1, 16)] == list(T95)


@pytest.mark.parametrize(
    ("values", "others", "said"),
    [
        ({0: 0.5}, {0: 0.1}, "mean OKS +0.4000 with one seed; its spread is not known, so nothing can be said."),
        ({0: 0.5, 1: 0.6}, {0: 0.1, 1: 0.3}, "no difference that the spread over seeds would allow to claim."),
        ({0: 0.5, 1: 0.51}, {0: 0.1, 1: 0.11}, "+0.4000 to +0.4000 over 2 seeds): higher, beyond the spread."),
        ({0: 0.1, 1: 0.11}, {0: 0.5, 1: 0.51}, "-0.4000 to -0.4000 over 2 seeds): lower, beyond the spread."),
        ({}, {0: 0.1}, "not measured yet, for no seed has both."),
    ],
)
def test_sentences_claim_what_the_spread_allows(values, others, said):
    comparison = Comparison(title="8 against 4 heads", arm="c3a1-8", other="c3a1-4")
    sentence = in_words(comparison, difference(values, others))
    assert said in sentence
    assert sentence.startswith("8 against 4 heads: ")
    assert sentence.endswith(" (The paper: AP +0.2 points.)")


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({0: 0.7, 1: 0.8}, "its loss is 0.700 to 0.800 of that of the best constant prediction (2 seeds): it trains."),
        ({0: 0.95}, "0.950 of that of the best constant prediction (1 seed): with this budget it has hardly begun"),
        ({0: 1.0, 1: 1.2}, "with this budget it does not train."),
        ({0: 0.7, 1: 0.95}, "it trains with some seeds and not, or hardly, with others."),
        ({}, "not measured yet."),
    ],
)
def test_whether_it_trains_is_said_of_all_seeds(ratios, said):
    assert said in learning_in_words("C2A2(4)", ratios)


def test_comparisons_are_of_arms_that_there_are():
    arms = {*ROWS, *(f"{key}-same-compute" for key, row in ROWS.items() if not row.dino)}
    assert {one.arm for one in ALL_COMPARISONS} | {one.other for one in ALL_COMPARISONS} == arms
    found = comparisons(["c3a1-4", "c3a1-4-dino", "c3a1-4-same-compute"])
    assert [(one.arm, one.other) for one in found] == [
        ("c3a1-4-dino", "c3a1-4"),
        ("c3a1-4-dino", "c3a1-4-same-compute"),
    ]
    assert [one.paper_ap for one in found] == [pytest.approx(0.013), None]


# ---- the report, of figures that were put there


def put_figures(folder: Path, *, oks: float, loss: float) -> None:
    figures = {
        "AP": oks / 10,
        "AP50": oks / 5,
        "mean_oks": oks,
        "pck": {"all": oks + 0.1},
        "baselines": {
            "heatmap_loss": {"network": loss, "nothing": 0.004, "constant": 0.002},
            "mean_pose": {"mean_oks": 0.15, "pck": 0.16},
        },
    }
    (folder / "figures.json").write_text(json.dumps(figures))


@pytest.fixture
def results(protocol, tmp_path):
    """Three arms with two seeds: the last has failed in its second one."""
    arms = arms_of(protocol, "c3a1-4", "c3a1-4-dino")
    values = {"c3a1-4": (0.2, 0.3), "c3a1-4-same-compute": (0.25, 0.35), "c3a1-4-dino": (0.4, 0.5)}
    for arm in arms:
        for seed in (0, 1):
            for stage in plan_stages(arm, seed, protocol, SIZES, tmp_path, workers=1):
                failed = (arm.name, seed, stage.name) == ("c3a1-4-dino", 1, "train")
                record = StageRecord("python", 1 if failed else 0, 10.0, 1, "training.train: the loss is nan")
                stage.folder.mkdir(parents=True, exist_ok=True)
                stage.record.write_text(json.dumps(dataclasses.asdict(record)))
            put_figures(stage.folder, oks=values[arm.name][seed], loss=0.001 + seed * 1e-4)
    return read_results(protocol, arms, (0, 1), tmp_path)


def test_results_are_read_with_costs_and_states(results):
    assert [(one.arm.name, one.seed, one.finished) for one in results][-1] == ("c3a1-4-dino", 1, False)
    assert results[-1].state == "FAILED in train: training.train: the loss is nan"
    assert [one.seconds for one in results] == [20, 20, 20, 20, 30, 30]
    assert [one.views for one in results[::2]] == [1600, 3200, 1600]
    assert results[0].figures == {
        "AP": pytest.approx(0.02),
        "AP50": pytest.approx(0.04),
        "mean_oks": 0.2,
        "pck": pytest.approx(0.3),
        "loss": 0.001,
        "loss_ratio": pytest.approx(0.5),
    }


def test_the_report_reads_in_a_terminal(protocol, results):
    text = as_text(protocol, results)
    assert max(map(len, text.splitlines())) <= 100
    assert "Crops of 96x72, 1,600 views of persons in batches of 16" in text
    spread = statistics.stdev((0.2, 0.3))
    assert any(line.split()[:4] == ["mean", "0.0250", "0.0500", "0.2500"] for line in text.splitlines())
    assert any(line.split()[0] == "±" and line.split()[3] == f"{spread:.4f}" for line in text.splitlines() if line)
    assert "mean pose in every box" in text
    assert "DINO against random, same views: mean OKS +0.2000 with one seed; its spread is not known" in text
    assert "c3a1-4-dino, seed 1: FAILED in train: training.train: the loss is nan" in text
    assert "C3A1(4) (c3a1-4): its loss is 0.500 to 0.550" in text


def test_the_report_as_markdown_and_json(protocol, results):
    lines = as_markdown(protocol, results).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {12}
    assert "| c3a1-4 | mean | 0.0250 | 0.0500 | 0.2500 | 0.3500 | 0.001050 | 0.525 |  |  |  |" in rows
    stored = json.loads(json.dumps(as_json(protocol, results)))
    assert stored["protocol"]["boxes"] == "gt"
    assert len(stored["arms"]) == 6
    (found,) = (one for one in stored["comparisons"] if one["other"] == "c3a1-4-same-compute")
    assert found["differences"]["mean_oks"]["mean"] == pytest.approx(0.15)
    assert found["differences"]["mean_oks"]["claimed"] is False


@pytest.mark.slow
def test_a_table_in_small_from_photographs_to_report(tmp_path, capsys):
    """The ordinary commands, each in its own process; the second time everything is there."""
    annotations, images = map(str, draw_coco(tmp_path, persons=12))
    runs = tmp_path / "runs"
    given = ["--run", "--table", "2", "--rows", "c2a1-4", "c2a1-4-dino", "--train", annotations, images]
    given += ["--val", annotations, images, "--runs-dir", str(runs), "--input", "32x24", "--budget", "8"]
    given += ["--pretrain-budget", "4", "--batch-size", "4", "--pretrain-batch-size", "4", "--threads", "1"]
    given += ["--workers", "0", "--device", "cpu", "--pretrain-options", "--out-dim 16 --local-views 0"]
    out = tmp_path / "report.json"
    assert main([*given, "--json", str(out)]) == 0, capsys.readouterr().out
    arms = json.loads(out.read_text())["arms"]
    assert [(one["arm"], one["state"]) for one in arms] == [
        ("c2a1-4", "finished"),
        ("c2a1-4-same-compute", "finished"),
        ("c2a1-4-dino", "finished"),
    ]
    assert arms[1]["views"] > arms[0]["views"] == arms[2]["views"] == 8
    assert all(0 <= one["mean_oks"] <= 1 and one["loss"] > 0 for one in arms)
    capsys.readouterr()
    assert main(given) == 0
    said = capsys.readouterr().out
    assert said.count("done before") == 3
    assert "3 arms, seeds 0" in said
    assert main(["--report", "--runs-dir", str(runs), "--markdown"]) == 0
    assert "| c2a1-4-dino | 0 |" in capsys.readouterr().out
    assert sys.executable not in (runs / "c2a1-4" / "seed-0" / "train.json").read_text()
