"""Every formula of the loss against plain loops over numbers."""

import math

import numpy as np
import pytest
import torch

from training.dino_alarm import CollapseAlarm
from training.dino_loss import (
    Signals,
    dino_loss,
    feature_spread,
    moved_center,
    read_signals,
    teacher_distributions,
)
from training.dino_schedule import cosine, ramp

P = 5


def softmax(logits, temperature):
    exponents = [math.exp(float(logit) / temperature) for logit in logits]
    return [exponent / sum(exponents) for exponent in exponents]


def draw(*shape, seed=0, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape) * scale).float()


def test_the_teacher_is_centred_and_sharpened():
    logits, center = draw(3, P), draw(P, seed=1)
    got = teacher_distributions(logits, center, 0.5)
    for row, expected_logits in zip(got, logits - center, strict=True):
        assert row.tolist() == pytest.approx(softmax(expected_logits, 0.5), abs=1e-6)


def test_a_lower_temperature_is_sharper():
    logits = draw(4, P)
    highest = [teacher_distributions(logits, torch.zeros(P), t).max(dim=-1).values.mean() for t in (1.0, 0.1, 0.04)]
    assert highest[0] < highest[1] < highest[2]


@pytest.mark.parametrize("views", [2, 3, 6])
def test_the_loss_is_the_cross_entropy_of_all_pairs_of_different_views(views):
    pictures = 3
    student, teacher = draw(views, pictures, P), draw(2, pictures, P, seed=1).softmax(dim=-1)
    terms = []
    for t in range(2):
        for v in range(views):
            if t == v:
                continue
            for b in range(pictures):
                given = softmax(student[v, b], 0.1)
                terms.append(-sum(float(teacher[t, b, p]) * math.log(given[p]) for p in range(P)))
    got = dino_loss(student, teacher, student_temperature=0.1)
    assert float(got) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_an_undecided_pair_costs_the_logarithm_of_the_prototypes():
    got = dino_loss(torch.zeros(4, 2, P), torch.full((2, 2, P), 1 / P), student_temperature=0.1)
    assert float(got) == pytest.approx(math.log(P))


def test_the_gradient_goes_to_the_student():
    student = draw(3, 2, P).requires_grad_()
    dino_loss(student, draw(2, 2, P, seed=1).softmax(dim=-1), student_temperature=0.1).backward()
    assert (student.grad.abs().sum(dim=-1) > 0).all()


def test_the_centre_is_a_moving_average_of_the_logits():
    center, logits = draw(P), draw(6, P, seed=1)
    expected = [0.9 * float(center[p]) + 0.1 * sum(float(row[p]) for row in logits) / 6 for p in range(P)]
    assert moved_center(center, logits, 0.9).tolist() == pytest.approx(expected, abs=1e-6)


def test_the_centre_takes_the_average_over_processes():
    """Two processes with halves of a batch get the centre of the whole batch."""
    center, logits = draw(P), draw(6, P, seed=1)
    halves = logits[:3], logits[3:]
    together = torch.stack([half.mean(dim=0) for half in halves]).mean(dim=0)
    whole = moved_center(center, logits, 0.9)
    for half in halves:
        torch.testing.assert_close(moved_center(center, half, 0.9, lambda _: together), whole)
        assert not torch.allclose(moved_center(center, half, 0.9), whole)


def test_signals_are_entropies_and_their_difference():
    teacher, student, features = draw(2, 3, P, seed=1).softmax(dim=-1), draw(4, 3, P), draw(6, 8)
    loss = dino_loss(student, teacher, student_temperature=0.1)
    got = read_signals(loss, teacher, features)
    rows = teacher.flatten(0, 1).tolist()
    entropies = [-sum(p * math.log(p) for p in row) for row in rows]
    mean = np.mean(rows, axis=0)
    assert got.loss == pytest.approx(float(loss))
    assert got.entropy == pytest.approx(np.mean(entropies), rel=1e-5)
    assert got.marginal_entropy == pytest.approx(-sum(p * math.log(p) for p in mean), rel=1e-5)
    assert got.spread == pytest.approx(float(feature_spread(features)))


def test_the_divergence_is_that_of_kullback_and_leibler():
    teacher, student = draw(2, 3, P, seed=1).softmax(dim=-1), draw(3, 3, P)
    given = torch.log_softmax(student / 0.1, dim=-1)
    terms = [
        float((teacher[t, b] * (teacher[t, b].log() - given[v, b])).sum())
        for t in range(2)
        for v in range(3)
        for b in range(3)
        if t != v
    ]
    got = read_signals(dino_loss(student, teacher, student_temperature=0.1), teacher, draw(6, 8))
    assert got.divergence == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_entropy_of_a_certain_teacher_is_zero_not_nan():
    certain = torch.zeros(2, 3, P)
    certain[..., 2] = 1.0
    got = read_signals(torch.tensor(0.5), certain, draw(6, 8))
    assert (got.entropy, got.marginal_entropy) == (0.0, 0.0)


def test_the_spread_of_features():
    features = draw(40, 16)
    units = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    assert float(feature_spread(features)) == pytest.approx(units.std(axis=0).mean() * 4, rel=1e-5)
    assert float(feature_spread(draw(2000, 16))) == pytest.approx(1.0, abs=0.03)
    assert float(feature_spread(draw(1, 16).expand(40, 16))) == pytest.approx(0.0, abs=1e-6)


def test_a_cosine_of_a_setting():
    assert cosine(0, 100, start=0.996, end=1.0) == pytest.approx(0.996)
    assert cosine(50, 100, start=0.996, end=1.0) == pytest.approx(0.998)
    assert cosine(25, 100, start=0.04, end=0.4) == pytest.approx(0.4 - 0.36 * (1 + math.sqrt(0.5)) / 2)
    assert cosine(100, 100, start=0.04, end=0.4) == pytest.approx(0.4)
    values = [cosine(step, 100, start=0.996, end=1.0) for step in range(101)]
    assert values == sorted(values)


def test_a_ramp_of_the_temperature():
    assert [ramp(step, 4, start=0.04, end=0.08) for step in range(6)] == pytest.approx(
        [0.04, 0.05, 0.06, 0.07, 0.08, 0.08]
    )
    assert ramp(0, 0, start=0.04, end=0.07) == 0.07


OUT_DIM = 1024
HIGHEST = math.log(OUT_DIM)
HEALTHY = Signals(loss=4.0, entropy=3.0, marginal_entropy=6.0, divergence=1.0, spread=0.5)
FLAT = Signals(loss=HIGHEST, entropy=HIGHEST - 0.001, marginal_entropy=HIGHEST, divergence=0.001, spread=0.5)
ONE_PROTOTYPE = Signals(loss=0.01, entropy=0.005, marginal_entropy=0.01, divergence=0.005, spread=0.5)


def alarms(signals, *, flat_from=10, window=5, steps=40):
    alarm = CollapseAlarm(OUT_DIM, flat_from=flat_from, window=window)
    return [alarm.see(step, signals) for step in range(steps)]


def test_a_healthy_run_raises_no_alarm():
    assert set(alarms(HEALTHY)) == {None}


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (FLAT, "flat at ln(out_dim) = 6.931"),
        (ONE_PROTOTYPE, "one prototype to every picture"),
        (HEALTHY._replace(spread=0.0), "features of all pictures are alike"),
    ],
)
def test_a_collapse_raises_the_alarm_once_a_window_is_full(signals, message):
    said = alarms(signals)
    first = 10 if signals is FLAT else 4  # every run begins flat
    assert set(said[:first]) == {None}
    assert all(text is not None for text in said[first:])
    assert message in said[-1]


def test_a_certain_teacher_that_tells_pictures_apart_is_no_collapse():
    assert set(alarms(HEALTHY._replace(loss=0.4, entropy=0.01))) == {None}


def test_a_single_bad_step_is_no_collapse():
    alarm = CollapseAlarm(OUT_DIM, flat_from=0, window=5)
    assert {alarm.see(step, FLAT if step % 5 == 0 else HEALTHY) for step in range(40)} == {None}


def test_logits_of_a_collapsed_teacher_raise_the_alarm_and_those_of_a_healthy_one_do_not():
    """From logits to alarm: every picture the same answer, with and without the centre of just that answer."""
    same, apart = draw(1, 1, OUT_DIM).expand(2, 8, OUT_DIM), draw(1, 8, OUT_DIM).expand(2, 8, OUT_DIM)

    def last_alarm(logits, center):
        teacher = teacher_distributions(logits, center, 0.04)
        signals = read_signals(dino_loss(logits, teacher, student_temperature=0.1), teacher, draw(16, 8))
        return alarms(signals)[-1]

    assert "one prototype" in last_alarm(same, torch.zeros(OUT_DIM))
    assert "flat" in last_alarm(same, same[0, 0])
    assert last_alarm(apart, torch.zeros(OUT_DIM)) is None
