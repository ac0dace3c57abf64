"""The convolutional part of a ResNet as the start of a network, and files that are no weights."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from drawings import tiny_config
from model.btranspose import BTranspose
from model.checkpoint import CheckpointError
from model.variants import variant
from training.resnet_weights import conv_weights
from training.transfer import initialise


def fresh(**changes):
    torch.manual_seed(99)
    return BTranspose(tiny_config(**changes))


def state_of(net):
    return {name: weight.clone() for name, weight in net.state_dict().items()}


class Bottleneck(nn.Module):
    """The bottleneck of torchvision's ResNet-50, by its names."""

    def __init__(self, channels, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        if stride != 1 or channels != 4 * planes:
            shortcut = nn.Conv2d(channels, 4 * planes, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet(nn.Module):
    """torchvision's names and layout, for any planes; layer 3 keeps the size of the map, as our third group does."""

    def __init__(self, planes=(64, 128, 256, 512), blocks=(3, 4, 6, 3)):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for number, (width, depth) in enumerate(zip(planes, blocks, strict=True), start=1):
            layer = []
            for block in range(depth):
                layer.append(Bottleneck(channels, width, 2 if number == 2 and block == 0 else 1))
                channels = 4 * width
            setattr(self, f"layer{number}", nn.Sequential(*layer))
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
        return x


SMALL = {"planes": (8, 8, 8, 16), "blocks": (1, 2, 1, 1)}


def small_resnet():
    """With three convolutional groups, as the tiny network below."""
    torch.manual_seed(5)
    resnet = ResNet(**SMALL)
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return resnet.eval()


def small_network():
    return fresh(conv_planes=(8, 8, 8), blocks=(1, 2, 1, 1))


def old_file(state):
    """As files from before batch norm counted its batches, in a wrapper that some training code puts around it."""
    return {"state_dict": {name: weight for name, weight in state.items() if "num_batches" not in name}, "epoch": 3}


@pytest.mark.parametrize("name", ["resnet.safetensors", "resnet.pth", "old.pth"])
def test_the_convolutional_part_of_a_resnet_is_taken(name, tmp_path, capsys):
    resnet, net, path = small_resnet(), small_network(), tmp_path / name
    before = state_of(net)
    if path.suffix == ".pth":
        torch.save(old_file(resnet.state_dict()) if name == "old.pth" else resnet.state_dict(), path)
    else:
        save_file(resnet.state_dict(), path)
    came_about = initialise(net, path)
    with torch.inference_mode():
        x = torch.randn(2, 3, 64, 48)
        got = net.eval().backbone.conv_groups(net.backbone.stem(x))
        torch.testing.assert_close(got, resnet(x))
    kept = [key for key in before if not key.startswith(("backbone.stem", "backbone.conv_groups"))]
    assert all(torch.equal(net.state_dict()[key], before[key]) for key in kept)
    assert came_about["file"].endswith(name)
    parts = [key for key in before if key not in kept]
    taken = len(parts) - sum("num_batches" in key for key in parts) * (name == "old.pth")
    assert (
        f"(a ResNet): {taken} tensors of the stem and the convolutional groups; the other {len(before) - taken} start"
        in capsys.readouterr().out
    )


def test_the_large_variant_has_the_shapes_of_resnet_50():
    with torch.device("meta"):
        theirs = conv_weights(ResNet().state_dict())
        ours = BTranspose(variant("c3a1-4-large")).backbone.state_dict()
    wanted = {name: weight.shape for name, weight in ours.items() if name.startswith(("stem", "conv_groups"))}
    assert {name: weight.shape for name, weight in theirs.items()} == wanted


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("layer2.1.bn2.weight"), r"conv_groups\.1\.1\.norm2\.weight is missing"),
        (lambda state: state.update({"layer1.0.conv3.weight": torch.zeros(16, 8, 1, 1)}), r"is \[16, 8, 1, 1\], not"),
        (lambda state: state.update({"layer3.1.conv1.weight": torch.zeros(8, 32, 1, 1)}), "is unknown"),
    ],
)
def test_a_resnet_of_other_shapes_is_refused(spoil, message, tmp_path):
    state, net = dict(small_resnet().state_dict()), small_network()
    spoil(state)
    save_file(state, tmp_path / "resnet.safetensors")
    before = state_of(net)
    with pytest.raises(CheckpointError, match=rf"{message}.* \(Tiny; a ResNet-50 fits c3a1-4-large\)"):
        initialise(net, tmp_path / "resnet.safetensors")
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


class Malicious:
    """What a pickle can do: call anything when it is opened."""

    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_that_is_more_than_weights_is_refused_unopened(tmp_path, capsys):
    torch.save({"conv1.weight": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth is not a file of weights"):
        initialise(fresh(), tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"garbage"])
@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
def test_files_that_are_no_weights_are_refused(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} is not a (file of weights|safetensors file)"):
        initialise(fresh(), tmp_path / name)
    with pytest.raises(CheckpointError, match=r"cannot read .*none"):
        initialise(fresh(), tmp_path / f"none.{name}")


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"has no conv1\.weight and layer1\.0\.conv1\.weight"):
        initialise(fresh(), tmp_path / "other.pth")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot read .*other\.json, the card"):
        initialise(fresh(), tmp_path / "other.safetensors")
