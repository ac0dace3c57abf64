import pytest
import torch

from training.loss import balanced, heatmap_loss, heatmap_mse, heatmap_sinkhorn
from training.sinkhorn import sinkhorn_divergence, unit_mass


def random_heatmaps(seed):
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))


def plain_loss(predicted, target, weights):
    total = 0.0
    for person in range(2):
        for joint in range(3):
            for row in range(4):
                for column in range(5):
                    error = float(predicted[person, joint, row, column] - target[person, joint, row, column])
                    total += float(weights[person, joint]) * error**2
    return total / (2 * 2 * 3 * 4 * 5)


@pytest.mark.parametrize("weights", [[[1, 1, 1], [1, 1, 1]], [[1, 0, 1], [0, 0, 1]], [[0, 0, 0], [0, 0, 0]]])
def test_the_loss_is_half_the_mean_squared_error_of_the_joints_that_count(weights):
    predicted, target, counts = random_heatmaps(0), random_heatmaps(1), torch.tensor(weights).float()
    expected = plain_loss(predicted, target, counts)
    assert heatmap_mse(predicted, target, counts).item() == pytest.approx(expected, rel=1e-5)


def test_joints_that_do_not_count_stay_in_the_denominator():
    predicted, target = torch.ones(1, 2, 4, 5), torch.zeros(1, 2, 4, 5)
    assert heatmap_mse(predicted, target, torch.tensor([[1.0, 1.0]])).item() == pytest.approx(0.5)
    assert heatmap_mse(predicted, target, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0.25)


def test_joints_that_do_not_count_have_no_gradient():
    predicted = random_heatmaps(0).requires_grad_()
    heatmap_mse(predicted, random_heatmaps(1), torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])).backward()
    assert predicted.grad is not None
    moved = predicted.grad.abs().amax(dim=(2, 3)) > 0
    assert moved.tolist() == [[True, False, True], [True, True, False]]


def test_balanced_persons_count_alike_however_few_of_their_joints_do():
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert torch.equal(balanced(weights, 0.0), weights)
    assert balanced(weights, 1.0).sum(dim=1).tolist() == [4.0, 4.0, 0.0]
    torch.testing.assert_close(balanced(weights, 0.5).sum(dim=1), torch.tensor([4.0, 2.0, 0.0]))
    assert (balanced(weights, 0.5)[weights == 0] == 0).all()


def random_weights():
    return torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def test_the_loss_mse_is_the_squared_error_alone():
    predicted, target = random_heatmaps(0), random_heatmaps(1)
    got = heatmap_loss(predicted, target, random_weights(), loss="mse", sinkhorn_weight=0.5)
    assert torch.equal(got, heatmap_mse(predicted, target, random_weights()))


def test_the_loss_sinkhorn_is_both_together():
    predicted, target, weights = random_heatmaps(0), random_heatmaps(1), random_weights()
    got = heatmap_loss(predicted, target, weights, loss="sinkhorn", sinkhorn_weight=0.5)
    divergence = heatmap_sinkhorn(predicted, target, weights)
    assert divergence.item() > 1e-3
    assert got.item() == pytest.approx((heatmap_mse(predicted, target, weights) + 0.5 * divergence).item())


def test_another_loss_is_refused():
    with pytest.raises(ValueError, match="loss is 'wing'; allowed: mse, sinkhorn"):
        heatmap_loss(random_heatmaps(0), random_heatmaps(1), random_weights(), loss="wing", sinkhorn_weight=0.5)


def test_the_divergence_is_averaged_over_all_joints_and_counts_only_some():
    predicted, target, weights = random_heatmaps(0), random_heatmaps(1), random_weights()
    each = [
        sinkhorn_divergence(unit_mass(predicted[person, joint]), unit_mass(target[person, joint])).item()
        for person in range(2)
        for joint in range(3)
        if weights[person, joint]
    ]
    assert heatmap_sinkhorn(predicted, target, weights).item() == pytest.approx(sum(each) / 6, rel=1e-5)


def test_joints_that_do_not_count_have_no_gradient_of_the_divergence():
    predicted = random_heatmaps(0).requires_grad_()
    heatmap_sinkhorn(predicted, random_heatmaps(1), random_weights()).backward()
    assert predicted.grad is not None
    moved = predicted.grad.abs().amax(dim=(2, 3)) > 0
    assert moved.tolist() == [[True, False, True], [True, True, False]]
