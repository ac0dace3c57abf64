"""The model of the service under load: what must come out where it is known, and that its plans add up."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))  # no package: its scripts import each other by name
capacity, load, queueing = map(importlib.import_module, ("capacity", "load", "queueing"))

COSTS = queueing.Costs(fixed_s=0.01, person_s=0.02, decode_s=0.004, other_s=0.001)


def test_one_request_takes_what_its_parts_take():
    outcome = queueing.simulate(COSTS, [5.0])
    assert outcome.taken == pytest.approx([0.004 + 0.03 + 0.001])
    assert (outcome.refused, outcome.batches) == (0, [1])


def test_what_comes_while_the_network_runs_shares_the_next_batch():
    moments = [0.0, *[0.005 + 0.001 * number for number in range(20)]]
    outcome = queueing.simulate(COSTS, moments, limits=queueing.Limits(max_batch=16))
    assert outcome.batches == [1, 16, 4]
    assert outcome.lasted_s == pytest.approx(0.004 + 0.03 + 0.33 + 0.09)


def test_decoding_has_so_many_threads():
    slow = queueing.Costs(fixed_s=0.0, person_s=0.0, decode_s=1.0)
    outcome = queueing.simulate(slow, [0.0] * 9, limits=queueing.Limits(decoders=4))
    assert sorted(outcome.taken) == pytest.approx([1.0] * 4 + [2.0] * 4 + [3.0])


def test_a_full_queue_refuses_and_the_rest_is_answered_as_fast_as_can_be():
    limits = queueing.Limits(max_batch=16, max_requests=50)
    most = COSTS.saturation(16)
    assert most == pytest.approx(16 / 0.33)
    moments = queueing.arrivals(2 * most, 30.0, seed=3)
    outcome = queueing.simulate(COSTS, moments, limits=limits)
    assert outcome.refused + len(outcome.taken) == len(moments)
    assert len(outcome.taken) / outcome.lasted_s == pytest.approx(most, rel=0.05)
    assert max(outcome.taken) < 0.001 + 50 / most + 2 * 0.33 + 0.1, "no longer than the queue is"


@pytest.mark.parametrize("limits", [{"max_requests": 3}, {"max_waiting": 3}])
def test_both_limits_refuse(limits):
    outcome = queueing.simulate(COSTS, [0.0] * 5, limits=queueing.Limits(**limits))
    assert (outcome.refused, len(outcome.taken)) == (2, 3)


def test_replicas_share_and_no_load_means_no_difference():
    moments = queueing.arrivals(4 * 30.0, 30.0, seed=1)
    alone = queueing.simulate(COSTS, queueing.arrivals(30.0, 30.0, seed=1))
    shared = queueing.simulate(COSTS, moments, replicas=4)
    assert len(shared.taken) == len(moments)
    assert sum(shared.taken) / len(shared.taken) < sum(alone.taken) / len(alone.taken)
    with pytest.raises(ValueError, match="replicas is 0; allowed: at least 1"):
        queueing.simulate(COSTS, [], replicas=0)


def test_noise_is_drawn_by_the_seed():
    noisy = queueing.Costs(fixed_s=0.01, person_s=0.02, decode_s=0.004, noise=0.3)
    first, again, other = (queueing.simulate(noisy, [0.0, 1.0], seed=seed).taken for seed in (1, 1, 2))
    assert first == again != other


def test_the_moments_are_those_of_the_load_generator():
    async def nothing() -> None:
        pass

    _, tally = asyncio.run(load.open_loop(nothing, rate=400, seconds=0.1, seed=5))
    assert len(tally.taken) == len(queueing.arrivals(400, 0.1, seed=5))


def test_times_are_found_again_in_what_they_lead_to():
    alone = {"rate": 20.0, "busy": 0.6, "p50_s": 0.03 + 0.004 + 0.001, "p95_s": 0.05}
    many = {"rate": 16 / 0.33, "batch": 16.0}
    costs = capacity.costs_of(alone, many, decode_s=0.004)
    for name in ("fixed_s", "person_s", "decode_s", "other_s"):
        assert getattr(costs, name) == pytest.approx(getattr(COSTS, name)), name
    assert costs.noise > 0


def test_the_kept_tables_give_plans(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench/capacity.py", "--results", str(tmp_path), "--simulated-s", "3"])
    capacity.main()
    rows = {row["pictures/s"]: row for row in json.loads((tmp_path / "capacity-plan.json").read_text())["rows"]}
    assert list(rows) == ["10", "1,000", "100,000"]
    assert rows["10"]["128x96: replicas"] == "1"
    assert int(rows["1,000"]["128x96: cores"]) == 2 * int(rows["1,000"]["128x96: replicas"])
    beside = json.loads((tmp_path / "capacity-kept.json").read_text())["rows"]
    assert {row[""] for row in beside} == {"measured", "model"}
    loads = json.loads((tmp_path / "capacity-loads.json").read_text())["rows"]
    assert float(loads[-1]["128x96, 1: p99"]) > float(loads[0]["128x96, 1: p99"])
