"""The rules of the queue, one at a time: events in, effects out. Who gets which place is tested beside this."""

from __future__ import annotations

import pytest

from service.batch_events import (
    Admitted,
    Answered,
    Arrive,
    BatchDone,
    BatchFailed,
    Dropped,
    Failed,
    Leave,
    Refused,
    Rested,
    Run,
    Supply,
)
from service.batcher import Batcher


def make(max_batch=8, max_persons=100):
    return Batcher(max_batch=max_batch, max_persons=max_persons)


def items(job, persons=1, start=0):
    return tuple(f"{job}.{index}" for index in range(start, start + persons))


def poses(run):
    """What the engine makes of the items of a batch."""
    return [f"pose of {item}" for item in run.items]


def poses_of(job, persons=1):
    return tuple(f"pose of {item}" for item in items(job, persons))


def join(batcher, job, persons=1, now_s=0.0, **options):
    """Arrive and be supplied at once; what the second had for effects."""
    assert batcher.step(Arrive(job, persons, **options), now_s) == [Admitted(job)]
    return batcher.step(Supply(job, items(job, persons)), now_s)


def test_a_person_alone_runs_at_once():
    batcher = make()
    run = Run(items(1), "any", (1,))
    assert batcher.step(Arrive(1, 1, group="any"), 0.0) == [Admitted(1)]
    assert batcher.step(Supply(1, items(1)), 0.0) == [run]
    assert (batcher.persons, batcher.waiting, batcher.running) == (1, 0, 1)
    assert batcher.step(BatchDone(poses(run)), 0.0) == [Answered(1, poses_of(1))]
    assert (batcher.persons, batcher.waiting, batcher.running) == (0, 0, 0)


def test_while_a_batch_runs_others_gather_and_then_run_together():
    batcher = make()
    (run,) = join(batcher, 1)
    assert [join(batcher, job) for job in (2, 3, 4)] == [[], [], []]
    assert batcher.waiting == 3
    _, together = batcher.step(BatchDone(poses(run)), 0.0)
    assert together == Run((*items(2), *items(3), *items(4)), None, (2, 3, 4))


def test_a_batch_has_at_most_so_many_and_answers_are_in_order_though_spread():
    batcher = make(max_batch=8)
    effects = join(batcher, 1, 21)
    sizes, started = [], []
    while not (answered := [effect for effect in effects if isinstance(effect, Answered)]):
        (run,) = effects
        sizes.append(len(run.items))
        started.append(run.started)
        effects = batcher.step(BatchDone(poses(run)), 0.0)
    assert answered == effects == [Answered(1, poses_of(1, 21))]
    assert sizes == [8, 8, 5]
    assert started == [(1,), (), ()]  # a job starts once


def test_groups_are_never_mixed():
    batcher = make()
    (run,) = join(batcher, 1)
    for job, group in enumerate(("b", "a", "b", "a", "b"), start=2):
        join(batcher, job, group=group)
    seen = []
    while run:
        seen.append((run.group, run.started))
        run = next((effect for effect in batcher.step(BatchDone(poses(run)), 0.0) if isinstance(effect, Run)), None)
    assert seen == [(None, (1,)), ("b", (2, 4, 6)), ("a", (3, 5))]


def test_all_that_is_admitted_and_unanswered_counts_and_the_rest_is_refused():
    batcher = make(max_batch=1, max_persons=4)
    (run,) = join(batcher, "runs", 1)
    join(batcher, "waits", 1)
    assert batcher.step(Arrive("is decoded", 1), 0.0) == [Admitted("is decoded")]
    assert batcher.step(Arrive("too many", 2), 0.0) == [Refused("too many", 3)]
    assert batcher.step(Arrive("fits", 1), 0.0) == [Admitted("fits")]
    assert batcher.step(Arrive("one more", 1), 0.0) == [Refused("one more", 4)]
    assert batcher.persons == 4
    batcher.step(BatchDone(poses(run)), 0.0)
    assert batcher.step(Arrive("one more", 1), 0.0) == [Admitted("one more")]  # a refused job may come again


def test_the_patient_wait_for_room_and_go_before_all_that_come_later():
    batcher = make(max_persons=4)
    (run,) = join(batcher, "first", 3)
    assert batcher.step(Arrive("patient", 2, patient=True), 0.0) == []
    assert batcher.step(Arrive("patient too", 1, patient=True), 0.0) == []  # would fit, but is not its turn
    assert batcher.step(Arrive("impatient", 1), 0.0) == [Refused("impatient", 3)]  # likewise
    assert batcher.persons == 3
    first, *admitted = batcher.step(BatchDone(poses(run)), 0.0)
    assert first == Answered("first", poses_of("first", 3))
    assert admitted == [Admitted("patient"), Admitted("patient too")]
    assert batcher.step(Arrive("impatient", 1), 0.0) == [Admitted("impatient")]


def test_a_patient_job_is_admitted_at_once_if_there_is_room():
    assert make().step(Arrive(1, 5, patient=True), 0.0) == [Admitted(1)]


def test_a_patient_job_that_can_never_fit_is_refused_and_is_in_nobodys_way():
    batcher = make(max_persons=4)
    assert batcher.step(Arrive("huge", 5, patient=True), 0.0) == [Refused("huge", 0)]
    assert batcher.step(Arrive("next", 4), 0.0) == [Admitted("next")]


def test_who_leaves_before_being_supplied_frees_the_room_and_may_still_be_supplied():
    batcher = make(max_persons=3)
    batcher.step(Arrive(1, 3), 0.0)
    assert batcher.step(Leave(1), 0.0) == [Dropped(1, 3, "gone")]
    assert batcher.persons == 0
    assert batcher.step(Supply(1, items(1, 3)), 0.0) == []  # the decoder was at it
    assert batcher.step(Arrive(2, 3), 0.0) == [Admitted(2)]


def test_who_leaves_while_waiting_is_never_run():
    batcher = make()
    (run,) = join(batcher, 1)
    join(batcher, 2, 5)
    join(batcher, 3)
    assert batcher.step(Leave(2), 0.0) == [Dropped(2, 5, "gone")]
    assert batcher.step(BatchDone(poses(run)), 0.0) == [Answered(1, poses_of(1)), Run(items(3), None, (3,))]


def test_who_leaves_while_running_frees_what_was_not_taken_and_the_rest_is_thrown_away():
    batcher = make(max_batch=2, max_persons=5)
    (run,) = join(batcher, 1, 5)
    assert batcher.step(Leave(1), 0.0) == [Dropped(1, 3, "gone")]
    assert (batcher.persons, batcher.waiting, batcher.running) == (0, 0, 2)
    assert join(batcher, 2, 5) == []  # there is room at once, and the engine is busy
    assert batcher.step(BatchDone(poses(run)), 0.0) == [Run(items(2, 2), None, (2,))]


def test_a_patient_job_that_leaves_lets_the_next_one_in():
    batcher = make(max_persons=4)
    batcher.step(Arrive("first", 3), 0.0)
    batcher.step(Arrive("large", 4, patient=True), 0.0)
    batcher.step(Arrive("small", 1, patient=True), 0.0)
    assert batcher.step(Leave("large"), 0.0) == [Admitted("small")]


@pytest.mark.parametrize("job", ["unknown", "answered", "refused", "left"])
def test_leaving_when_nothing_is_left_to_leave_is_no_mistake(job):
    batcher = make(max_persons=2)
    (run,) = join(batcher, "answered")
    batcher.step(BatchDone(poses(run)), 0.0)
    batcher.step(Arrive("refused", 3), 0.0)
    batcher.step(Arrive("left", 1), 0.0)
    batcher.step(Leave("left"), 0.0)
    assert batcher.step(Leave(job), 0.0) == []


def test_a_job_that_comes_at_its_deadline_is_not_admitted():
    batcher = make()
    assert batcher.step(Arrive(1, 3, deadline_s=2.0), 2.0) == [Dropped(1, 0, "late")]
    assert batcher.step(Arrive(2, 3, deadline_s=2.0, patient=True), 2.5) == [Dropped(2, 0, "late")]
    assert batcher.step(Arrive(3, 3, deadline_s=2.0), 1.9) == [Admitted(3)]
    assert batcher.persons == 3


def test_a_late_job_is_dropped_at_the_next_event_and_never_run():
    batcher = make(max_batch=2)
    (run,) = join(batcher, 1)
    join(batcher, 2, 3, deadline_s=5.0)
    join(batcher, 3, 3, deadline_s=6.0)
    assert batcher.step(BatchDone(poses(run)), 5.0) == [
        Dropped(2, 3, "late"),
        Answered(1, poses_of(1)),
        Run(items(3, 2), None, (3,)),
    ]
    assert batcher.step(Leave("unknown"), 6.0) == [Dropped(3, 1, "late")]  # in the middle of its own batch
    assert (batcher.persons, batcher.waiting, batcher.running) == (0, 0, 2)
    assert batcher.step(BatchDone(["pose", "pose"]), 6.0) == []


def test_a_job_that_is_late_while_it_is_decoded_is_not_waited_for():
    batcher = make(max_persons=3)
    batcher.step(Arrive(1, 3, deadline_s=1.0), 0.0)
    assert batcher.step(Supply(1, items(1, 3)), 1.0) == [Dropped(1, 3, "late")]
    assert batcher.persons == 0


def test_late_jobs_make_room_in_the_same_step():
    batcher = make(max_persons=3)
    batcher.step(Arrive("late", 3, deadline_s=1.0), 0.0)
    batcher.step(Arrive("patient and late", 1, deadline_s=1.0, patient=True), 0.0)
    batcher.step(Arrive("patient", 1, patient=True), 0.0)
    assert batcher.step(Arrive("last", 2, patient=True), 1.0) == [
        Dropped("patient and late", 0, "late"),
        Dropped("late", 3, "late"),
        Admitted("patient"),
        Admitted("last"),
    ]


def test_a_failed_batch_fails_the_jobs_in_it_and_no_others():
    batcher = make(max_batch=3)
    (run,) = join(batcher, "before")
    join(batcher, "large", 4)
    join(batcher, "small")
    join(batcher, "after")
    _, run = batcher.step(BatchDone(poses(run)), 0.0)
    assert set(run.items) == {"large.0", "large.1", "small.0"}
    effects = batcher.step(BatchFailed(), 0.0)
    assert effects[-1] == Run(items("after"), None, ("after",))
    assert sorted(effects[:-1], key=repr) == [
        Dropped("large", 2, "failed"),
        Dropped("small", 0, "failed"),
        Failed("large"),
        Failed("small"),
    ]
    assert batcher.step(BatchDone(poses(effects[-1])), 0.0) == [Answered("after", poses_of("after"))]
    assert batcher.persons == 0


def test_a_failed_batch_undoes_what_good_batches_made_of_the_same_job():
    batcher = make(max_batch=2)
    (run,) = join(batcher, 1, 6)
    batcher.step(BatchDone(poses(run)), 0.0)
    assert batcher.step(BatchFailed(), 0.0) == [Failed(1), Dropped(1, 2, "failed")]
    assert (batcher.persons, batcher.waiting, batcher.running) == (0, 0, 0)


def test_who_left_a_batch_that_failed_is_not_told():
    batcher = make()
    join(batcher, 1, deadline_s=1.0)
    batcher.step(Leave(1), 0.0)
    assert batcher.step(BatchFailed(), 0.0) == []


@pytest.mark.parametrize(
    "wrong",
    [
        Arrive("nobody", 0),
        Arrive("nobody", -1),
        Arrive("runs", 1),
        Arrive("is decoded", 1),
        Arrive("patient", 1, patient=True),
        Supply("is decoded", items("is decoded", 1)),
        Supply("is decoded", items("is decoded", 3)),
        Supply("is decoded", ()),
        Supply("runs", items("runs", 3)),
        Supply("patient", items("patient", 5)),
        BatchDone(["pose"]),
        BatchDone(["pose"] * 3),
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused_and_changes_nothing(wrong):
    batcher = make(max_batch=2, max_persons=7)
    (run,) = join(batcher, "runs", 3)
    batcher.step(Arrive("is decoded", 2), 0.0)
    batcher.step(Arrive("soon late", 1, deadline_s=1.0), 0.0)
    batcher.step(Arrive("patient", 5, patient=True), 0.0)
    with pytest.raises(ValueError, match=r"allowed|results"):
        batcher.step(wrong, 1.0)
    assert (batcher.persons, batcher.waiting, batcher.running) == (6, 1, 2)
    late, then = batcher.step(BatchDone(poses(run)), 1.0)
    assert late == Dropped("soon late", 1, "late")  # whoever waits for it is still told
    assert then == Run(items("runs", 1, start=2), None, ())


@pytest.mark.parametrize("end", [BatchDone(["pose"]), BatchDone([]), BatchFailed()], ids=repr)
def test_a_batch_cannot_end_if_none_runs(end):
    with pytest.raises(ValueError, match="none runs"):
        make().step(end, 0.0)


@pytest.mark.parametrize("limits", [{"max_batch": 0}, {"max_persons": 0}])
def test_limits_that_let_nothing_through_are_refused(limits):
    with pytest.raises(ValueError, match="allowed: at least 1 each"):
        make(**limits)


def test_lanes_run_batches_side_by_side_and_end_them_in_any_order():
    batcher = Batcher(max_batch=2, max_persons=9, lanes=2)
    runs = [effect for job in (1, 2, 3) for effect in join(batcher, job, persons=2) if isinstance(effect, Run)]
    assert [(run.lane, run.items) for run in runs] == [(0, items(1, 2)), (1, items(2, 2))]
    assert (batcher.running, batcher.waiting) == (4, 2)
    answered, run = batcher.step(BatchDone(poses(runs[1]), lane=1), 0.0)
    assert answered == Answered(2, poses_of(2, 2))
    assert run == Run(items(3, 2), None, (3,), lane=1)
    assert batcher.step(BatchDone(poses(runs[0]), lane=0), 0.0) == [Answered(1, poses_of(1, 2))]


def test_a_lane_that_rests_gets_nothing_until_it_has_rested():
    batcher = Batcher(max_batch=1, max_persons=9, lanes=2)
    for job in (1, 2, 3):
        join(batcher, job)
    assert batcher.step(BatchFailed(lane=0, rests=True), 0.0) == [Failed(1), Dropped(1, 0, "failed")]
    assert (batcher.resting, batcher.waiting) == (1, 1)
    assert batcher.step(Rested(lane=0), 0.0) == [Run(items(3), None, (3,), lane=0)]
    assert batcher.resting == 0
