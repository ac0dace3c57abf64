"""The figures of an evaluation beside AP and AR: OKS and PCK by person and joint, calibration, and baselines.

They need to know whose pose each one is, so they are there for ground-truth boxes only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.estimator import PoseEstimator
from model.skeleton import Skeleton
from training import calibration, pose_errors
from training.blind_baseline import describe_baselines, mean_poses
from training.coco import KeypointData
from training.person_accuracy import PCK_THRESHOLD, describe_accuracy, joint_oks, read_true_poses

NOT_MEASURED: dict[str, Any] = {"mean_oks": None, "pck": None}  # of detected boxes, or of somebody's results file
WIDTH = 100


def finer_figures(
    estimator: PoseEstimator,
    data: KeypointData,
    results: Sequence[dict[str, Any]],
    *,
    skeleton: Skeleton,
    calibrate: bool = False,
    errors: bool = False,
    baselines: bool = False,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Further keys of an evaluation, as plain JSON.

    Args:
        results: COCO results of `estimator`, one for each person of `data`, in order.
        skeleton: of the network.
        calibrate: also compare scores with what came of them.
        errors: also count the kinds of mistakes.
        baselines: also measure the loss, and what is reached without looking at the picture.
    """
    names, sigmas = skeleton.names, skeleton.oks_sigmas
    truth = read_true_poses(data)
    poses = np.array([result["keypoints"] for result in results]).reshape(len(results), -1, 3)
    figures = describe_accuracy(poses[..., :2], truth, names=names, sigmas=sigmas)
    if calibrate:
        similarity = joint_oks(poses[..., :2], truth, sigmas)
        scores = np.array([result["score"] for result in results])
        figures["calibration"] = {
            "poses": calibration.reliability(scores, np.nanmean(similarity, axis=1)),
            "keypoints": calibration.reliability(poses[..., 2][truth.labelled], similarity[truth.labelled]),
        }
    if errors:
        photographs = [person.image_id for person in data.persons]
        figures["errors"] = pose_errors.describe_errors(poses[..., :2], truth, photographs, skeleton=skeleton)
    if baselines:
        mean_pose = describe_accuracy(mean_poses(truth, estimator.config.input_hw), truth, names=names, sigmas=sigmas)
        figures["baselines"] = describe_baselines(estimator, data.persons, mean_pose, batch_size=batch_size)
    return figures


def as_text(figures: dict[str, Any]) -> str:
    """What `finer_figures` found, for a terminal; empty where there is nothing."""
    if figures.get("pck") is None:
        return ""
    pck = figures["pck"]
    lines = [
        f"mean OKS {figures['mean_oks']:.3f}, PCK@{PCK_THRESHOLD:g} {pck['all']:.3f} of {pck['labelled_joints']} "
        f"labelled joints, within {PCK_THRESHOLD:g} torsos"
    ]
    joints = "  ".join(f"{name}\N{NO-BREAK SPACE}{_share(value)}" for name, value in pck["joints"].items())
    lines += textwrap.wrap(joints, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
    if "calibration" in figures:
        lines.append(calibration.as_text("score of a pose against its OKS", figures["calibration"]["poses"]))
        lines.append(
            calibration.as_text("confidence of a keypoint against its part of OKS", figures["calibration"]["keypoints"])
        )
    if "errors" in figures:
        lines.append(pose_errors.as_text(figures["errors"]))
    if "baselines" in figures:
        loss, mean_pose = figures["baselines"]["heatmap_loss"], figures["baselines"]["mean_pose"]
        lines.append(
            f"heatmap loss {loss['network']:.6f}; predicting nothing {loss['nothing']:.6f}, the best constant "
            f"{loss['constant']:.6f}"
        )
        lines.append(f"the mean pose in every box: mean OKS {mean_pose['mean_oks']:.3f}, PCK {mean_pose['pck']:.3f}")
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def for_card(figures: dict[str, Any]) -> dict[str, Any]:
    """Rounded for a checkpoint's card; of calibration only the errors, not the bins."""
    kept = dict(figures)
    if "calibration" in kept:
        kept["calibration"] = {
            what: {name: value for name, value in table.items() if name != "bins"}
            for what, table in kept["calibration"].items()
        }
    rounded: dict[str, Any] = _rounded(kept)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, float):
        return round(value, 4) if abs(value) >= 0.1 else float(f"{value:.4g}")
    return value


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
