import pytest
import torch

from training.loss import heatmap_mse


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
