"""Stand-ins for the network: known answers, without weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from threading import Event

import numpy as np

from model.checkpoint import CheckpointCard
from model.crop import Pixels
from model.dependency import JointAttention, query_tokens
from model.estimator import ExplainedKeypoints, Keypoints
from model.geometry import Array
from model.levels import Level
from model.skeleton import COCO
from model.variants import PoseConfig, variant
from service.admission import Admission, Observer
from service.api_keys import ApiKeys
from service.core import PoseService
from service.detecting import DetectorQueue
from service.engine import Engine, EngineObserver
from service.explaining import attention_shapes
from service.images import ImageLimits
from service.lane import Lane
from service.network import Network
from service.poses import ModelInfo
from service.tracking_values import TrackerSettings
from service.work import Estimator

CONFIG = variant("c3a1-4", input_hw=(64, 48))


class BrightestPixel:
    """An estimator that puts every keypoint on the brightest pixel of the crop, with the same score.

    It follows the crop as a real network would, so boxes, orientation and coordinates can be tested end to end. The
    tests may hold it back (`gate`), or let it fail (`fails_with`), and see what it was asked (`batches`).
    """

    def __init__(self, *, config: PoseConfig = CONFIG, score: float = 0.5) -> None:
        self.config = config
        self.batches: list[int] = []
        self.flip_tests: list[bool] = []
        self.levels: list[tuple[Level, ...]] = []
        self.gate = Event()
        self.gate.set()
        self.fails_with: Exception | None = None
        self.forgets = 0
        self.score = score

    def estimate(self, crops: Sequence[Pixels], *, flip_test: bool = False) -> list[Keypoints]:
        self.gate.wait(timeout=30)
        if self.fails_with is not None:
            raise self.fails_with
        self.batches.append(len(crops))
        self.flip_tests.append(flip_test)
        return [_brightest(crop, self.score) for crop in crops][self.forgets :]

    def explain(self, crops: Sequence[Pixels], *, levels: Collection[Level]) -> list[ExplainedKeypoints]:
        """Every keypoint looks at its own token most, then at the next ones; layers and heads differ a little."""
        found = self.estimate(crops)
        self.levels.append(tuple(levels))
        return [
            ExplainedKeypoints(
                pose.points, pose.scores, {level: _looks_at_itself(level, pose.points, self.config) for level in levels}
            )
            for pose in found
        ]


def _looks_at_itself(level: Level, points: Array, config: PoseConfig) -> JointAttention:
    layers, heads = config.attention_layers(level), config.attention_heads(level)
    height, width = config.tokens_hw
    queries = query_tokens(points, config.tokens_hw)
    rows, columns = np.mgrid[:height, :width]
    distance = np.abs(rows - queries[:, 0, None, None]) + np.abs(columns - queries[:, 1, None, None])  # [K, H, W]
    sharpness = 0.5 + np.arange(layers * heads).reshape(layers, heads, 1, 1, 1) / 8
    looks = np.exp(-sharpness * distance)  # [L, A, K, H, W]
    total = looks.sum(axis=(-2, -1), keepdims=True)
    return JointAttention(level, queries, (looks / total).astype(np.float32), (looks / 2).astype(np.float32))


def _brightest(crop: Pixels, score: float) -> Keypoints:
    brightness = crop.astype(np.float64).sum(axis=2)
    weight = np.where(brightness > 0.5 * brightness.max(), brightness, 0.0) + 1e-12
    rows, columns = np.mgrid[: crop.shape[0], : crop.shape[1]]
    point = [np.average(columns, weights=weight), np.average(rows, weights=weight)]
    return Keypoints(np.tile(point, (len(COCO), 1)), np.full(len(COCO), score))


def make_network(
    *estimators: Estimator, sha256: str = "0" * 64, config: PoseConfig = CONFIG, source: str = ""
) -> Network:
    """A network that consists of fakes, one for each lane."""
    info = ModelInfo(
        variant=config.key,
        label=config.label,
        parameters=17,
        input_hw=config.input_hw,
        checkpoint_sha256=sha256,
        runtime="torch",
        device="cpu",
        precision="float32",
        attention=attention_shapes(config),
        keypoint_names=config.skeleton.names,
        skeleton=config.skeleton.limbs,
    )
    card = CheckpointCard(config=config, sha256=sha256)
    return Network(card=card, info=info, estimators=estimators or (BrightestPixel(),), source=source)


def make_engine(
    estimator: Estimator | None = None,
    *,
    config: PoseConfig = CONFIG,
    max_batch: int = 8,
    max_waiting: int = 256,
    stalled_after_s: float = 60.0,
    observer: EngineObserver | None = None,
    others: Sequence[BrightestPixel] = (),
) -> Engine:
    """An engine of one lane, and of as many more as there are `others`."""
    estimators = (estimator or BrightestPixel(), *others)
    return Engine(
        [Lane() for _ in estimators],
        make_network(*estimators, config=config),
        max_batch=max_batch,
        max_waiting=max_waiting,
        stalled_after_s=stalled_after_s,
        observer=observer,
    )


def make_admission(
    *,
    max_requests: int = 64,
    max_dependencies: int = 4,
    max_held_bytes: int = 2**30,
    timeout_s: float = 30.0,
    api_keys: ApiKeys | None = None,
    observers: Sequence[Observer] = (),
) -> Admission:
    return Admission(
        max_requests=max_requests,
        max_dependencies=max_dependencies,
        max_held_bytes=max_held_bytes,
        timeout_s=timeout_s,
        api_keys=api_keys,
        observers=observers,
    )


def make_service(
    estimator: BrightestPixel | None = None,
    *,
    engine: Engine | None = None,
    admission: Admission | None = None,
    limits: ImageLimits | None = None,
    max_persons: int = 100,
    detector: DetectorQueue | None = None,
    min_pose_score: float = 0.0,
    tracking: TrackerSettings | None = None,
) -> PoseService:
    """A service on a fake network: `engine` and `admission` where a test needs them to be special."""
    return PoseService(
        engine or make_engine(estimator),
        admission or make_admission(),
        limits=limits or ImageLimits(),
        max_persons=max_persons,
        detector=detector,
        min_pose_score=min_pose_score,
        tracking=tracking,
    )
