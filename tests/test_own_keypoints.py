"""Five keypoints of one's own, from annotations to answers: trained, evaluated, served, explained."""

import json

import numpy as np
import pytest
import torch

from drawings import lively_network, tiny_config
from fakes import make_engine, make_service
from http_clients import ask
from model.checkpoint import load_checkpoint, save_checkpoint
from model.estimator import PoseEstimator
from model.export import main as export
from model.skeleton import COCO
from own_keypoints import CATEGORY, NAMES, draw_dogs
from tiny_runs import tiny_pose_settings, tiny_variant_fixture  # noqa: F401 (a fixture)
from training.evaluate import main as evaluate
from training.trainer import Trainer
from training.transfer import LAST_LAYER, initialise

pytestmark = pytest.mark.usefixtures("tiny_variant")


@pytest.fixture(scope="module")
def dogs(tmp_path_factory):
    return draw_dogs(tmp_path_factory.mktemp("dogs"))


@pytest.fixture
def settings(dogs, tmp_path):
    return tiny_pose_settings(dogs, tmp_path / "run", epochs=3, learning_rate=3e-3)


@pytest.fixture
def checkpoint(settings):
    Trainer(settings).run()
    return settings.run_dir / "best.safetensors"


def test_the_network_has_the_keypoints_of_its_annotations(checkpoint):
    net, card = load_checkpoint(checkpoint)
    assert card.config.skeleton.names == NAMES
    assert net.head.heatmaps.weight.shape[0] == 5
    told = json.loads(checkpoint.with_suffix(".json").read_text())["config"]
    assert (told["num_keypoints"], told["skeleton"]["names"]) == (5, list(NAMES))


def test_a_run_says_which_keypoints_it_has_and_what_was_derived(settings, capsys):
    Trainer(settings)._describe()
    said = capsys.readouterr().out
    assert "dog: 5 keypoints: snout" in said
    assert "flip_pairs from the names: left_ear/right_ear" in said


def test_a_card_without_keypoints_is_of_cocos(tmp_path):
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, lively_network(tiny_config()), training={})
    told = json.loads(path.with_suffix(".json").read_text())
    del told["config"]["skeleton"]
    path.with_suffix(".json").write_text(json.dumps(told))
    assert load_checkpoint(path)[1].config.skeleton == COCO
    told["config"]["num_keypoints"] = 5
    path.with_suffix(".json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"num_keypoints is 5; allowed: 17"):
        load_checkpoint(path)


def test_it_is_evaluated_by_its_own_widths(checkpoint, dogs, tmp_path):
    out, command = tmp_path / "out.json", ["--checkpoint", str(checkpoint), "--annotations", str(dogs[0])]
    assert evaluate([*command, "--images", str(dogs[1]), "--runtime", "torch", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert (figures["images"], figures["persons"], figures["poses"]) == (8, 8, 8)
    assert 0 <= figures["AP"] <= 1
    assert set(figures["pck"]["joints"]) == set(NAMES)


def test_annotations_with_other_keypoints_are_not_what_it_is_measured_on(checkpoint, tmp_path, capsys):
    other = draw_dogs(tmp_path / "other", dogs=2, category=CATEGORY | {"keypoints": [*NAMES[:-1], "tail"]})
    command = ["--checkpoint", str(checkpoint), "--annotations", str(other[0]), "--images", str(other[1])]
    assert evaluate([*command, "--runtime", "torch"]) == 2
    assert "dogs.json has other keypoints than" in capsys.readouterr().err


def test_a_run_of_other_keypoints_is_not_gone_on_with(settings, checkpoint, tmp_path):
    other = draw_dogs(tmp_path / "other", category=CATEGORY | {"keypoints": [*NAMES[:-1], "tail"]})
    trainer = Trainer(tiny_pose_settings(other, settings.run_dir, epochs=3, learning_rate=3e-3))
    with pytest.raises(ValueError, match="was started with 5 keypoints: snout, "):
        trainer.run()


def test_a_start_from_cocos_network_keeps_all_but_the_last_layer(settings, tmp_path, capsys):
    source = lively_network(tiny_config())
    save_checkpoint(tmp_path / "coco.safetensors", source, training={}, dtype=torch.float32)
    net = Trainer(settings).learner.net
    fresh = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    initialise(net, tmp_path / "coco.safetensors")
    for name, tensor in net.state_dict().items():
        if name not in LAST_LAYER:
            assert torch.equal(tensor, source.state_dict()[name]), name
    weight = net.state_dict()[LAST_LAYER[0]]
    for joint, name in enumerate(NAMES):
        there = source.state_dict()[LAST_LAYER[0]]
        expected = there[COCO.names.index(name)] if name in COCO.names else fresh[LAST_LAYER[0]][joint]
        assert torch.equal(weight[joint], expected), name
    assert "2 of 5 keypoints that have the same name there: left_ear, right_ear" in capsys.readouterr().out


def test_an_exported_network_tells_its_keypoints(checkpoint, tmp_path):
    onnx = pytest.importorskip("onnx")
    out = tmp_path / "dogs.onnx"
    assert export(["--checkpoint", str(checkpoint), "--out", str(out)]) == 0
    told = {one.key: one.value for one in onnx.load(str(out)).metadata_props}
    assert json.loads(told["keypoints"]) == list(NAMES)


def test_the_service_answers_with_its_names_and_numbers(checkpoint, dogs):
    net, card = load_checkpoint(checkpoint)
    photo = min(dogs[1].iterdir()).read_bytes()
    png = {"Content-Type": "image/png"}

    async def talk(client):
        asked = {path: await client.get(path) for path in ("/model", "/openapi.json")}
        for path in ("/pose", *(f"/dependency?keypoint={word}" for word in ("left_paw&format=json", "nose", "all"))):
            asked[path] = await client.post(path, content=photo, headers=png)
        return list(asked.values())

    service = make_service(engine=make_engine(PoseEstimator(net), config=card.config))
    model, document, poses, found, refused, figure = ask(talk, service)
    assert model.json()["keypoints"] == list(NAMES)
    assert len(poses.json()["poses"][0]["keypoints"]) == 15
    assert found.json()["keypoint"] == "left_paw"
    assert np.sum(found.json()["attention"]) == pytest.approx(1, abs=1e-3)
    assert refused.status_code == 422
    assert "keypoint is 'nose'; allowed: snout, left_ear" in refused.json()["detail"]
    assert figure.headers["content-type"] == "image/png"
    told = document.json()["components"]["schemas"]["PoseBody"]["properties"]["keypoints"]
    assert (told["minItems"], told["maxItems"]) == (15, 15)
