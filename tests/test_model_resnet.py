"""The convolutional part against an independent implementation: the ResNet of Hugging Face transformers."""

import pytest
import torch
from torch import nn

from drawings import randomise_norm
from model.resnet import ConvBottleneck, Stem, conv_group

hf_config = pytest.importorskip("transformers.models.resnet.configuration_resnet")
hf_resnet = pytest.importorskip("transformers.models.resnet.modeling_resnet")


def learned_layers(module, block_type):
    """Convolutions and norms in the order in which they run; of each bottleneck the shortcut last."""
    for block in [part for part in module.modules() if isinstance(part, block_type)] or [module]:
        named = [(name, part) for name, part in block.named_modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)]
        yield from (part for _, part in sorted(named, key=lambda item: "shortcut" in item[0]))


def share_weights(ours, theirs):
    """Give both the same random weights and batch-norm statistics."""
    torch.manual_seed(0)
    targets = learned_layers(ours, ConvBottleneck)
    for target, source in zip(targets, learned_layers(theirs, hf_resnet.ResNetBottleNeckLayer), strict=True):
        if isinstance(source, nn.BatchNorm2d):
            randomise_norm(source)
        target.load_state_dict(source.state_dict())
    ours.eval()
    theirs.eval()


def assert_same(ours, theirs, x):
    with torch.inference_mode():
        got, expected = ours(x), theirs(x.clone())
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_the_stem_is_that_of_resnet():
    config = hf_config.ResNetConfig(embedding_size=16)
    ours, theirs = Stem(16), hf_resnet.ResNetEmbeddings(config)
    share_weights(ours, theirs)
    assert_same(ours, theirs, torch.randn(2, 3, 64, 48))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("in_channels", "planes", "blocks"), [(8, 8, 1), (16, 12, 3), (32, 8, 2)])
def test_a_group_is_a_stage_of_resnet(stride, in_channels, planes, blocks):
    config = hf_config.ResNetConfig(layer_type="bottleneck", downsample_in_bottleneck=False)
    ours = conv_group(in_channels, planes, blocks, stride=stride)
    theirs = hf_resnet.ResNetStage(config, in_channels, 4 * planes, stride=stride, depth=blocks)
    share_weights(ours, theirs)
    assert_same(ours, theirs, torch.randn(2, in_channels, 17, 12))


def test_an_unchanged_shape_needs_no_projection():
    assert isinstance(ConvBottleneck(32, 8).shortcut, nn.Identity)
    assert not isinstance(ConvBottleneck(32, 8, stride=2).shortcut, nn.Identity)
    assert not isinstance(ConvBottleneck(16, 8).shortcut, nn.Identity)
