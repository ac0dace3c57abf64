"""The 17 COCO keypoints: names, left/right pairs, limbs, body halves and OKS widths.

Order and names are those of the COCO keypoint annotations. "Left" is the person's own left.
"""

from __future__ import annotations

KEYPOINT_NAMES = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
NUM_KEYPOINTS = len(KEYPOINT_NAMES)

# The keypoint that each one becomes in a mirrored picture.
FLIP_ORDER = tuple(
    KEYPOINT_NAMES.index(name.replace("left", "right") if "left" in name else name.replace("right", "left"))
    for name in KEYPOINT_NAMES
)

UPPER_BODY = tuple(range(11))
LOWER_BODY = tuple(range(11, NUM_KEYPOINTS))

# Pairs of keypoint indices that a drawing joins (COCO's own list, from 0).
LIMBS = (
    (15, 13),
    (13, 11),
    (16, 14),
    (14, 12),
    (11, 12),
    (5, 11),
    (6, 12),
    (5, 6),
    (5, 7),
    (6, 8),
    (7, 9),
    (8, 10),
    (1, 2),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (3, 5),
    (4, 6),
)

# Per-keypoint standard deviation of human annotation relative to the square root of the person's area (COCO).
OKS_SIGMAS = (
    0.026,
    0.025,
    0.025,
    0.035,
    0.035,
    0.079,
    0.079,
    0.072,
    0.072,
    0.062,
    0.062,
    0.107,
    0.107,
    0.087,
    0.087,
    0.089,
    0.089,
)
