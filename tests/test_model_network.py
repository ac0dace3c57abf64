import pytest
import torch

from drawings import TINY_HW, lively_network, tiny_config
from model.attention import AttentionCollector
from model.btranspose import BTranspose
from model.variants import VARIANTS, variant

POSITIONS = ("relative", "absolute")


def random_crops(batch, height, width, *, seed=1):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("key", VARIANTS)
def test_every_variant_maps_crops_to_heatmaps_and_trains_all_its_parameters(key, position):
    torch.manual_seed(0)
    net = BTranspose(variant(key, position=position, input_hw=TINY_HW))
    heatmaps = net(random_crops(2, *TINY_HW))
    assert heatmaps.shape == (2, 17, 16, 12)

    (heatmaps - 1).square().mean().backward()
    largest = {}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        largest[name] = parameter.grad.abs().max()
    for name in ("backbone.stem.conv.weight", "backbone.reduce.weight", "head.heatmaps.weight"):
        assert largest[name] > 0, name


def test_feature_maps_have_the_sizes_of_the_paper():
    """Paper Table 5, for C3A1 at 256 x 192."""
    with torch.device("meta"):
        net = BTranspose(variant("c3a1-4"))
        x = torch.empty(1, 3, 256, 192)
    backbone = net.backbone
    shapes = [(x := backbone.stem(x)).shape]
    shapes += [(x := group(x)).shape for group in backbone.conv_groups]
    for block in backbone.mhsa_groups[0].children():
        x = block(x)
    shapes += [x.shape, (x := backbone.reduce(x)).shape]
    shapes += [backbone(torch.empty(1, 3, 256, 192, device="meta")).shape]
    shapes += [net.head.deconv(x).shape, net.head(x).shape]
    assert [tuple(shape[1:]) for shape in shapes] == [
        (64, 64, 48),
        (256, 64, 48),
        (384, 32, 24),
        (512, 32, 24),
        (1024, 32, 24),
        (256, 32, 24),
        (256, 32, 24),
        (256, 64, 48),
        (17, 64, 48),
    ]
    assert backbone.position_embedding.shape == (768, 256)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("hw", [(32, 24), (96, 72), (48, 80)])
def test_crops_of_another_size_than_configured_work(position, hw):
    net = lively_network(tiny_config(position=position))
    with torch.inference_mode():
        heatmaps = net(random_crops(2, *hw))
    assert heatmaps.shape == (2, 17, hw[0] // 4, hw[1] // 4)
    assert heatmaps.isfinite().all()


@pytest.mark.parametrize("position", POSITIONS)
def test_evaluation_repeats_itself_and_each_crop_is_on_its_own(position):
    net = lively_network(tiny_config(position=position))
    crops = random_crops(3, *TINY_HW)
    with torch.inference_mode():
        together = net(crops)
        assert torch.equal(net(crops), together)
        alone = torch.cat([net(crop[None]) for crop in crops])
    assert together.std() > 0.1  # a network that answers nothing would agree with itself, too
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)


def test_dropout_acts_in_training_only():
    net = lively_network(tiny_config(dropout=0.5)).train()
    crops = random_crops(2, *TINY_HW)
    with torch.no_grad():
        assert not torch.equal(net(crops), net(crops))


def test_heatmaps_depend_on_where_things_are():
    net = lively_network(tiny_config())
    crops = random_crops(1, *TINY_HW)
    with torch.inference_mode():
        before = net(crops)
        net.backbone.position_embedding.zero_()
        assert (net(crops) - before).abs().max() > 1e-3


@pytest.mark.parametrize("key", VARIANTS)
def test_a_collector_receives_every_attention_map_and_changes_no_heatmap(key):
    config = variant(key, input_hw=TINY_HW)
    net = lively_network(config)
    crops = random_crops(2, *TINY_HW)
    collector = AttentionCollector()
    with torch.inference_mode():
        fused = net(crops)
        explicit = net(crops, collector)
    assert fused.std() > 0.1
    torch.testing.assert_close(explicit, fused, atol=1e-4, rtol=0)

    tokens = 8 * 6
    assert len(collector.mhsa) == sum(config.blocks[len(config.conv_planes) :])
    assert len(collector.encoder) == config.encoder_layers
    assert {tuple(weights.shape) for weights in collector.mhsa} == {(2, config.mhsa_heads, tokens, tokens)}
    assert {tuple(weights.shape) for weights in collector.encoder} == {(2, config.encoder_heads, tokens, tokens)}
    for weights in (*collector.mhsa, *collector.encoder):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)
