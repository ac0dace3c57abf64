import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drawings import draw_coco, figure_points
from model.similarity import oks
from training.coco import AnnotationError
from training.oks import METRIC_NAMES, score_results, suppress_duplicates

REFERENCE = Path(__file__).parents[1].parent / "shared" / "reference" / "oks"
REFERENCE_FIGURES = (0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522)


@pytest.fixture(scope="module")
def annotations_path(tmp_path_factory):
    return draw_coco(tmp_path_factory.mktemp("coco"), persons=8)[0]


def results_of(annotations_path, *, shift=0.0, seed=None):
    """Every annotated pose as a result, moved by `shift` or by noise of that size."""
    results = []
    rng = np.random.default_rng(seed)
    for annotation in json.loads(annotations_path.read_text())["annotations"]:
        keypoints = np.reshape(annotation["keypoints"], (17, 3)).astype(float)
        keypoints[:, :2] += shift if seed is None else rng.normal(scale=shift, size=(17, 2))
        results.append(
            {
                "image_id": annotation["image_id"],
                "category_id": 1,
                "keypoints": keypoints.ravel().tolist(),
                "score": float(rng.random()),
            }
        )
    return results


def test_the_published_example_has_its_published_figures():
    if not REFERENCE.is_dir():
        pytest.skip(f"the COCO example is not at {REFERENCE}")
    results = json.loads((REFERENCE / "person_keypoints_val2014_fakekeypoints100_results.json").read_text())
    figures = score_results(results, REFERENCE / "person_keypoints_val2014_100.json")
    assert tuple(round(figures[name], 3) for name in METRIC_NAMES) == REFERENCE_FIGURES


def test_perfect_results_score_one(annotations_path):
    figures = score_results(results_of(annotations_path), annotations_path)
    assert set(figures) == set(METRIC_NAMES)
    assert {figures[name] for name in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")} == {1.0}


def test_a_size_without_persons_has_nothing_to_measure(annotations_path):
    """The drawn persons are all of medium size."""
    figures = score_results(results_of(annotations_path), annotations_path)
    assert figures["APM"] == 1.0
    assert figures["APL"] == figures["ARL"] == -1.0


def test_no_results_score_zero(annotations_path):
    figures = score_results([], annotations_path)
    assert figures["AP"] == figures["AR"] == 0.0


def test_far_results_score_zero_and_worse_ones_less(annotations_path):
    figures = [score_results(results_of(annotations_path, shift=shift), annotations_path) for shift in (2, 4, 500)]
    assert 1 > figures[0]["AP"] > figures[1]["AP"] > figures[2]["AP"] == 0


def test_a_box_in_a_result_changes_nothing(annotations_path):
    """It would hide a wrong pose from the size bins: a pose of 1 square pixel is not of medium size."""
    wrong = [result | {"score": 2.0} for result in results_of(annotations_path, shift=30.0)]
    results = results_of(annotations_path) + wrong
    boxed = [result | {"bbox": [0, 0, 1, 1], "area": 1.0} for result in results]
    figures = score_results(results, annotations_path)
    assert 0 < figures["APM"] < 1
    assert score_results(boxed, annotations_path) == figures


def good_result():
    return {"image_id": 100, "category_id": 1, "keypoints": [0.0] * 51, "score": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 999}, "result 1 is for image 999, not in"),
        ({"keypoints": [0.0] * 50}, "result 1 has 50 keypoint numbers; allowed: 51"),
    ],
)
def test_a_result_that_does_not_belong_is_refused_by_number(annotations_path, changes, message):
    with pytest.raises(AnnotationError, match=message):
        score_results([good_result(), good_result() | changes], annotations_path)


@pytest.mark.parametrize("missing", ["image_id", "category_id", "keypoints", "score"])
def test_a_result_without_a_field_is_refused_by_number(annotations_path, missing):
    broken = good_result()
    del broken[missing]
    with pytest.raises(AnnotationError, match=f"result 1 lacks {missing}"):
        score_results([good_result(), broken], annotations_path)


def test_results_that_are_not_a_list_are_refused(annotations_path):
    with pytest.raises(AnnotationError, match="results are a dict; allowed: a list"):
        score_results({"results": []}, annotations_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "result", ["text", 5, {**good_result(), "keypoints": 5}, {**good_result(), "keypoints": "x" * 51}]
)
def test_a_result_of_another_kind_is_refused_by_number(annotations_path, result):
    with pytest.raises(AnnotationError, match="result 1"):
        score_results([good_result(), result], annotations_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"annotations": []}'])
def test_annotations_of_another_layout_are_refused(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=r"data\.json"):
        score_results([good_result()], path)


def test_missing_annotations_are_refused(tmp_path):
    with pytest.raises(AnnotationError, match=r"cannot read .*none\.json"):
        score_results([], tmp_path / "none.json")


def test_similarity_is_that_of_the_coco_evaluation(annotations_path):
    results = results_of(annotations_path, shift=4.0, seed=3)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations_path))
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
    for image_id in truth.getImgIds():
        expected = evaluation.computeOks(image_id, 1)  # results, best first, by persons
        here = [result for result in results if result["image_id"] == image_id]
        here.sort(key=lambda result: -result["score"])
        poses = np.array([np.reshape(result["keypoints"], (17, 3))[:, :2] for result in here])
        for column, person in enumerate(truth.loadAnns(truth.getAnnIds(image_id))):
            points = np.reshape(person["keypoints"], (17, 3))[:, :2]
            np.testing.assert_allclose(oks(points, poses, person["area"]), expected[:, column], rtol=1e-6)
        assert expected.max() > 0.3


def test_only_counted_joints_matter():
    points = figure_points(np.array([0.0, 0.0, 50.0, 100.0]))
    other = points.copy()
    other[3:] += 1000
    counted = np.arange(17) < 3
    assert oks(points, other[None], 3000.0, counted).tolist() == [1.0]
    assert oks(points, other[None], 3000.0)[0] == pytest.approx(3 / 17)


def pose(score, *, image_id=1, shift=0.0):
    points = figure_points(np.array([10.0, 20.0, 50.0, 100.0])) + shift
    keypoints = np.column_stack((points, np.ones(17))).ravel().tolist()
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": score, "area": 5000.0}


def test_the_best_of_duplicates_stays():
    results = [pose(0.4), pose(0.9, shift=0.5), pose(0.6)]
    assert suppress_duplicates(results) == [results[1]]


def test_different_poses_stay_in_their_order():
    results = [pose(0.1), pose(0.9, shift=40.0), pose(0.5, shift=80.0)]
    assert suppress_duplicates(results) == results


def test_duplicates_are_sought_within_an_image_only():
    results = [pose(0.4, image_id=2), pose(0.9, image_id=1), pose(0.5, image_id=2)]
    assert suppress_duplicates(results) == results[1:]


def test_a_suppressed_pose_suppresses_no_other():
    """B is like A and like C, but A and C differ: B goes, C stays."""
    shift = 4.5
    results = [pose(0.9), pose(0.8, shift=shift), pose(0.7, shift=2 * shift)]
    first, second, third = (np.reshape(r["keypoints"], (17, 3))[:, :2] for r in results)
    threshold = (oks(first, second[None], 5000.0)[0] + oks(first, third[None], 5000.0)[0]) / 2
    assert suppress_duplicates(results, threshold) == [results[0], results[2]]


def test_of_equal_scores_the_first_stays():
    results = [pose(0.5), pose(0.5, shift=0.1)]
    assert suppress_duplicates(results) == results[:1]


def test_nothing_to_suppress():
    assert suppress_duplicates([]) == []


@pytest.mark.parametrize("missing", ["iscrowd", "category_id", "num_keypoints"])
def test_a_field_with_only_one_meaning_may_be_missing(annotations_path, tmp_path, missing):
    content = json.loads(annotations_path.read_text())
    for annotation in content["annotations"]:
        del annotation[missing]
    del content["categories"]
    shorter = tmp_path / "shorter.json"
    shorter.write_text(json.dumps(content))
    results = results_of(annotations_path, shift=2.0)
    assert score_results(results, shorter) == score_results(results, annotations_path)


def test_an_annotation_without_area_is_named(annotations_path, tmp_path):
    content = json.loads(annotations_path.read_text())
    del content["annotations"][1]["area"]
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=f"annotation {content['annotations'][1]['id']} has no `area`"):
        score_results([], broken)


@pytest.mark.parametrize(("name", "value"), [("area", None), ("area", "x"), ("iscrowd", None), ("id", "x")])
def test_what_cannot_be_computed_with_is_refused_before_anything_is_scored(annotations_path, tmp_path, name, value):
    content = json.loads(annotations_path.read_text())
    content["annotations"][0][name] = value
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=f"{name} is {value!r}; allowed: "):
        score_results([], broken)
