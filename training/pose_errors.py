"""What kind of mistake each joint is: a little off, on the person's other side, on somebody else, or nowhere.

The kinds are those of Ronchi and Perona ("Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", 2017,
section 2; jitter, inversion, swap, miss), decided by the similarity of a joint with a place, its part of OKS:

    right         above 0.85 with its own place
    near          0.5 to 0.85
    other_side    below 0.5, but 0.5 or more with the opposite joint of the same person
    other_person  neither, but 0.5 or more with that joint, or the opposite one, of another annotated person
    nowhere       none of these

Only annotated joints are looked at, and only they can be mistaken for. Poses belong to persons in order, as with
ground-truth boxes. Knows no network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.similarity import joint_similarity
from model.skeleton import Skeleton
from training.person_accuracy import Floats, TruePoses, joint_oks

KINDS = ("right", "near", "other_side", "other_person", "nowhere")
RIGHT_ABOVE = 0.85
NEAR_FROM = 0.5

FEW, SOME = 3, 7  # labelled joints of a person, at most


def kinds_of_joints(
    points: Floats, truth: TruePoses, photographs: Sequence[object], *, skeleton: Skeleton
) -> npt.NDArray[np.int8]:
    """Each joint's kind as an index into `KINDS`, [N, K]; -1 where it is not labelled.

    Args:
        points: [N, K, 2] in image pixels, the pose of each person of `truth`, in order.
        photographs: [N], equal for persons of the same one.
        skeleton: its `flip_order` names the opposite joint of each; a nose has none.
    """
    order, sigmas = list(skeleton.flip_order), skeleton.oks_sigmas
    itself = list(range(len(order)))
    own = joint_oks(points, truth, sigmas)  # NaN is above nothing
    other_side = _similarity(points, truth.area, truth, np.arange(len(points)), order, sigmas)
    other_side[:, [joint for joint in itself if order[joint] == joint]] = 0.0
    other_person = np.zeros_like(own)
    together: dict[object, list[int]] = defaultdict(list)
    for person, photograph in enumerate(photographs):
        together[photograph].append(person)
    for person, photograph in enumerate(photographs):
        others = np.array([other for other in together[photograph] if other != person], dtype=int)
        for joints in (itself, order):
            found = _similarity(points[person], truth.area[person : person + 1], truth, others, joints, sigmas)
            other_person[person] = np.maximum(other_person[person], found.max(axis=0, initial=0.0))
    tests = (own > RIGHT_ABOVE, own >= NEAR_FROM, other_side >= NEAR_FROM, other_person >= NEAR_FROM)
    kinds = np.select(tests, range(len(tests)), default=len(tests))
    return np.asarray(np.where(truth.labelled, kinds, -1), dtype=np.int8)


def _similarity(
    points: Floats,
    area: Floats,
    truth: TruePoses,
    persons: npt.NDArray[np.int_],
    joints: list[int],
    sigmas: Sequence[float],
) -> Floats:
    """Of points [..., K, 2], each with where `persons` [M] have the joint that `joints` [K] names: [M, K].

    Relative to `area` of whose points they are, with the widths of the points' own joints; 0 where nothing is labelled.
    """
    distance = ((points - truth.points[persons][:, joints]) ** 2).sum(axis=-1)
    there = truth.labelled[persons][:, joints]
    return np.where(there, joint_similarity(distance, area[:, None], sigmas), 0.0)


def describe_errors(
    points: Floats, truth: TruePoses, photographs: Sequence[object], *, skeleton: Skeleton
) -> dict[str, Any]:
    """Shares of the kinds over all labelled joints and of each; mean OKS by how many joints of a person are labelled.

    Plain JSON. Arguments as of `kinds_of_joints`. A joint, or a kind of person, that nobody has is left out.
    """
    kinds = kinds_of_joints(points, truth, photographs, skeleton=skeleton)
    oks = np.nanmean(joint_oks(points, truth, skeleton.oks_sigmas), axis=1)
    counts = truth.labelled.sum(axis=1)
    groups = {f"1 to {FEW}": counts <= FEW, f"{FEW + 1} to {SOME}": (counts > FEW) & (counts <= SOME)}
    groups[f"{SOME + 1} or more"] = counts > SOME
    return {
        "all": _shares(kinds),
        "joints": {name: _shares(one) for name, one in zip(skeleton.names, kinds.T, strict=True) if (one >= 0).any()},
        "by_labelled_joints": {
            name: {"persons": int(which.sum()), "mean_oks": float(oks[which].mean())}
            for name, which in groups.items()
            if which.any()
        },
    }


def _shares(kinds: npt.NDArray[np.int8]) -> dict[str, float]:
    counted = np.bincount(kinds[kinds >= 0].ravel(), minlength=len(KINDS))
    return {kind: float(share) for kind, share in zip(KINDS, counted / counted.sum(), strict=True)}


def as_text(errors: dict[str, Any]) -> str:
    """What `describe_errors` found as a table for a terminal, in percent."""
    width = max(map(len, ("every joint", *errors["joints"])))
    lines = [f"{'in percent':<{width}}" + "".join(f"{kind.replace('_', ' '):>14}" for kind in KINDS)]
    for name, shares in {"every joint": errors["all"], **errors["joints"]}.items():
        lines.append(f"{name:<{width}}" + "".join(f"{100 * shares[kind]:>14.1f}" for kind in KINDS))
    for name, group in errors["by_labelled_joints"].items():
        lines.append(f"{group['persons']} persons with {name} labelled joints: mean OKS {group['mean_oks']:.3f}")
    return "\n".join(lines)
