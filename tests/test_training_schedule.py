import math

import pytest

from training.schedule import learning_rate


def rate(step, total_steps=1000, *, peak=1e-3, end=1e-5, warmup_steps=0, schedule="cosine"):
    return learning_rate(step, total_steps, peak=peak, end=end, warmup_steps=warmup_steps, schedule=schedule)


def test_the_cosine_starts_at_the_peak_and_ends_at_the_end():
    assert rate(0) == pytest.approx(1e-3)
    assert rate(500) == pytest.approx((1e-3 + 1e-5) / 2)
    assert rate(1000) == pytest.approx(1e-5)
    assert rate(250) == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi / 4)) / 2)


def test_the_cosine_only_falls():
    rates = [rate(step) for step in range(1001)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 1001


@pytest.mark.parametrize("schedule", ["cosine", "steps"])
def test_the_warm_up_rises_linearly_to_the_peak(schedule):
    rates = [rate(step, warmup_steps=10, schedule=schedule) for step in range(11)]
    assert rates[:10] == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(1e-3)


def test_the_cosine_falls_over_what_the_warm_up_leaves():
    assert rate(550, warmup_steps=100) == pytest.approx((1e-3 + 1e-5) / 2)
    assert rate(1000, warmup_steps=100) == pytest.approx(1e-5)


def test_a_warm_up_as_long_as_the_run_is_only_a_rise():
    assert [rate(step, 4, warmup_steps=4) for step in range(4)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert math.isfinite(rate(4, 4, warmup_steps=4))


@pytest.mark.parametrize("steps_per_epoch", [1, 7])
@pytest.mark.parametrize(
    ("epoch", "passed"),
    [(0, 0), (99, 0), (100, 1), (149, 1), (150, 2), (199, 2), (200, 3), (219, 3), (220, 4), (229, 4)],
)
def test_steps_fall_at_the_milestones_of_the_paper(epoch, passed, steps_per_epoch):
    total = 230 * steps_per_epoch
    assert rate(epoch * steps_per_epoch, total, end=1e-9, schedule="steps") == pytest.approx(1e-3 * 0.25**passed)


def test_steps_stretch_over_shorter_runs():
    """Epoch 100 of 230 is 10 of 23."""
    assert rate(9, 23, schedule="steps") == pytest.approx(1e-3)
    assert rate(10, 23, schedule="steps") == pytest.approx(2.5e-4)


def test_steps_never_fall_below_the_end():
    assert rate(229, 230, end=1e-4, schedule="steps") == 1e-4


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule is 'line'; allowed: cosine, steps"):
        rate(0, schedule="line")
