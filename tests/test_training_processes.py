"""Two processes of a run against one process on the joined batch (gloo, on a CPU)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import load_file

import two_processes as two
from drawings import draw_coco, lively_network, noise_photograph, tiny_config
from model.estimator import PoseEstimator
from tiny_runs import tiny_variant_fixture  # noqa: F401 (a fixture)
from training.coco import read_persons
from training.dino_trainer import DinoTrainer
from training.predict import BoxedPerson, predict
from training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_variant")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the processes write; 16 drawn persons; 8 pictures."""
    out, poses, pictures = (tmp_path_factory.mktemp(name) for name in ("out", "poses", "pictures"))
    draw_coco(poses, persons=16)
    for number in range(8):
        cv2.imwrite(str(pictures / f"{number}.png"), noise_photograph(90, 120, seed=number, blur=1.0 + number))
    return out, poses, pictures


@pytest.fixture(scope="module")
def both(folders):
    """What each of two processes got: facts and tensors."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, str(ROOT / "tests" / "two_processes.py"), *map(str, folders)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    out = folders[0]
    return [(json.loads((out / f"{n}.json").read_text()), load_file(out / f"{n}.safetensors")) for n in range(2)]


def part(tensors, name):
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}


def assert_alike(found, expected, *, tolerance):
    """Within a part of the largest value of each tensor."""
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        largest = max(float(tensor.abs().max()), 1e-6)
        assert float((found[key] - tensor).abs().max()) <= tolerance * largest, key


def gradients_and_statistics(tensors):
    """What does not depend on Adam, whose first step has the sign of a gradient, however small that is."""
    kept = ("gradient.", "running_", "center")
    return {key: tensor for key, tensor in tensors.items() if any(word in key for word in kept)}


def test_processes_talk(both):
    facts = [fact for fact, _ in both]
    assert [fact["first"] for fact in facts] == [True, False]
    assert [fact["part"] for fact in facts] == [[0, 1, 2], [3, 4, 5, 6]]
    for fact in facts:
        assert fact["average"] == [1.5]
        assert fact["gather"] == [{"rank": 0}, {"rank": 1}]
        assert fact["share"] == "from 0"
        assert fact["disagreement"] == (
            "ValueError: the processes of runs/x disagree: persons: 4 in process 0, 5 in 1; "
            "allowed: one folder that all of them see"
        )


def test_a_synced_norm_is_the_norm_of_the_joined_batch(both):
    expected = two.normalised(
        two.norm_under_test(torch.nn.BatchNorm2d(3)), torch.cat([two.noise(rank) for rank in range(2)])
    )
    for rank, (_, tensors) in enumerate(both):
        found = part(tensors, "norm")
        for name in ("out", "input_gradient"):
            own = expected[name][4 * rank : 4 * rank + 4]
            torch.testing.assert_close(found[name], own, rtol=1e-4, atol=1e-4 * float(own.abs().max()))
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(found[name], expected[name])
    for name in ("weight_gradient", "bias_gradient"):  # each process has its own part of these
        torch.testing.assert_close(
            sum(part(tensors, "norm")[name] for _, tensors in both), expected[name], rtol=1e-4, atol=1e-2
        )


def test_two_processes_have_the_gradients_of_one_on_the_joined_batch(both, folders, tmp_path):
    trainer = Trainer(two.pose_settings(folders[1], tmp_path / "run", ema_decay=0.5))
    loss = trainer.train_step(next(iter(trainer._loader(0, 0))))
    expected = two.learned(trainer.learner.net)
    for facts, tensors in both:
        assert facts["step/loss"] == pytest.approx(loss, rel=1e-5)
        found = {key: tensor for key, tensor in part(tensors, "step").items() if not key.startswith("average/")}
        assert_alike(gradients_and_statistics(found), gradients_and_statistics(expected), tolerance=2e-4)
    (_, left), (_, right) = both
    assert all(torch.equal(left[key], right[key]) for key in left if key.startswith("step/"))
    assert any(key.startswith("step/average/") for key in left)


def test_pieces_give_the_mean_gradient_of_the_pieces(both, folders, tmp_path):
    """Piece n of both processes together are one forward and backward pass."""
    trainer = Trainer(two.pose_settings(folders[1], tmp_path / "run"))
    example = next(iter(trainer._loader(0, 0)))
    learner = trainer.learner
    learner.net.train()
    numbers = torch.arange(two.BATCH).reshape(2, two.PIECES, -1)  # process, piece, person
    for piece in range(two.PIECES):
        persons = numbers[:, piece].flatten()
        (learner._loss(*(tensor[persons] for tensor in example)) / two.PIECES).backward()
    expected = gradients_and_statistics(two.learned(learner.net))
    for _, tensors in both:
        assert_alike(gradients_and_statistics(part(tensors, "pieces")), expected, tolerance=2e-4)


def test_one_process_takes_a_batch_in_pieces(folders, tmp_path):
    trainer = Trainer(two.pose_settings(folders[1], tmp_path / "run", accumulate=2))
    example = next(iter(trainer._loader(0, 0)))
    loss = trainer.train_step(example)
    by_hand = Trainer(two.pose_settings(folders[1], tmp_path / "hand")).learner
    by_hand.net.train()
    losses = [by_hand._loss(*(tensor[piece] for tensor in example)) / 2 for piece in (slice(4), slice(4, 8))]
    sum(losses).backward()
    assert loss == pytest.approx(float(sum(losses).detach()))
    found, expected = two.learned(trainer.learner.net), two.learned(by_hand.net)
    assert_alike(gradients_and_statistics(found), gradients_and_statistics(expected), tolerance=1e-5)


def test_norms_that_are_not_synced_see_their_own_share_until_they_agree(both):
    (first, _), (second, _) = both
    assert first["step/statistics"] == second["step/statistics"]
    assert first["apart/statistics"] != second["apart/statistics"]
    assert first["apart/agreed"] == second["apart/agreed"] == first["apart/statistics"]


def test_a_number_that_is_none_in_one_process_stops_all(both):
    for facts, _ in both:
        assert facts["diverged"].startswith("TrainingDiverged: the loss is nan at step 0")
        assert facts["weights_kept"]


def test_a_batch_that_cannot_be_shared_is_refused(both):
    expected = "ValueError: batch_size is 6; allowed: a multiple of 4 (2 processes, accumulate 2)"
    assert [facts["uneven"] for facts, _ in both] == [expected] * 2


def test_two_processes_share_the_work_of_muon_and_move_the_weights_as_one(both):
    expected, alone = two.moved(None)
    assert alone == 2 * 4  # the fifth matrix has no gradient
    made = [facts["made"] for facts, _ in both]
    assert sum(made) == alone
    assert min(made) > 0
    for _, tensors in both:
        found = part(tensors, "muon")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_self_distillation_in_two_processes_is_that_of_the_joined_batch(both, folders, tmp_path):
    trainer = DinoTrainer(two.dino_settings(folders[2], tmp_path / "run"))
    signals = trainer.learner.train_step(next(iter(trainer._loader(0, 0))))
    expected = gradients_and_statistics(two.learned(trainer.learner.nets))
    assert "net.center" in expected
    for facts, tensors in both:
        assert_alike(gradients_and_statistics(part(tensors, "dino")), expected, tolerance=2e-3)
        for name in ("loss", "entropy", "marginal_entropy"):
            assert facts["dino"][name] == pytest.approx(getattr(signals, name), rel=1e-4), name
    (_, left), (_, right) = both
    assert all(torch.equal(left[key], right[key]) for key in left if key.startswith("dino/"))


def test_each_person_is_estimated_once_and_in_order(both, folders):
    data = read_persons(folders[1] / "annotations.json", folders[1] / "images")
    persons = [BoxedPerson(p.image_id, p.image_path, p.box_xywh) for p in data.persons[:7]]
    expected = predict(PoseEstimator(lively_network(tiny_config())), persons, flip_test=True, progress=False)
    for facts, _ in both:
        assert len(facts["poses"]) == 7
        for found, wanted in zip(facts["poses"], expected, strict=True):
            assert found["image_id"] == wanted["image_id"]
            assert found["box_xywh"] == wanted["box_xywh"]
            assert found["keypoints"] == pytest.approx(wanted["keypoints"], abs=1e-2)
