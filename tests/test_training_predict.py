import numpy as np
import pytest

from drawings import draw_coco, lively_network, tiny_config
from model.estimator import PoseEstimator, crop_person, keypoints_to_image, pose_score
from training.coco import AnnotationError, read_persons
from training.dataset import read_image
from training.predict import BoxedPerson, predict


@pytest.fixture(scope="module")
def estimator():
    return PoseEstimator(lively_network(tiny_config()))


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    found = read_persons(*draw_coco(tmp_path_factory.mktemp("coco"), persons=5)).persons
    return [BoxedPerson(p.image_id, p.image_path, p.box_xywh, 0.1 * p.annotation_id) for p in found]


def test_each_person_has_a_result_in_the_order_given(estimator, persons):
    results = predict(estimator, persons, flip_test=False, batch_size=2, progress=False)
    for person, result in zip(persons, results, strict=True):
        crop = crop_person(read_image(person.image_path), person.box_xywh, estimator.config)
        alone = keypoints_to_image(estimator.estimate([crop.pixels])[0], crop)
        keypoints = np.reshape(result["keypoints"], (17, 3))
        np.testing.assert_allclose(keypoints[:, :2], alone.points, atol=1e-2)
        np.testing.assert_allclose(keypoints[:, 2], alone.scores, atol=1e-4)
        assert result["score"] == pytest.approx(pose_score(alone.scores, person.box_score), abs=1e-4)
        assert (result["image_id"], result["category_id"]) == (person.image_id, 1)
        assert result["box_xywh"] == person.box_xywh.tolist()
        assert result["area"] == pytest.approx((95 * 1.25) ** 2 * 0.75)


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_batch_size_does_not_matter(estimator, persons, flip_test):
    one, all_at_once = (
        predict(estimator, persons, flip_test=flip_test, batch_size=size, progress=False) for size in (1, 32)
    )
    for left, right in zip(one, all_at_once, strict=True):
        np.testing.assert_allclose(left["keypoints"], right["keypoints"], atol=1e-2)


def test_nobody_gives_nothing(estimator):
    assert predict(estimator, [], flip_test=False, progress=False) == []


def test_a_missing_photograph_is_named(estimator, persons, tmp_path):
    lost = BoxedPerson(1, tmp_path / "lost.jpg", persons[0].box_xywh)
    with pytest.raises(AnnotationError, match=r"cannot read .*lost\.jpg"):
        predict(estimator, [lost], flip_test=False, progress=False)
