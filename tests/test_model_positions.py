import pytest
import torch

from model.positions import resample_grid, resample_state, resample_table


def random_table(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [3, 5, 9, 21])
def test_a_resampled_offset_table_keeps_its_ends_and_its_middle(length):
    table = random_table(7, 4)
    resampled = resample_table(table, length)
    assert resampled.shape == (length, 4)
    for ours, theirs in ((0, 0), (length // 2, 3), (-1, -1)):
        torch.testing.assert_close(resampled[ours], table[theirs])


@pytest.mark.parametrize("length", [2, 4, 10])
def test_a_table_that_changes_linearly_stays_exact(length):
    slope, start = random_table(4), torch.tensor([1.0, -2.0, 0.5, 0.0])
    table = start + torch.linspace(0, 1, 6)[:, None] * slope
    expected = start + torch.linspace(0, 1, length)[:, None] * slope
    torch.testing.assert_close(resample_table(table, length), expected)


def test_a_table_of_the_wanted_length_is_passed_on():
    table = random_table(7, 4)
    assert resample_table(table, 7) is table


def test_tables_of_several_heads_are_resampled_each_on_its_own():
    table = random_table(3, 7, 4)
    resampled = resample_table(table, 5)
    assert resampled.shape == (3, 5, 4)
    for head in range(3):
        torch.testing.assert_close(resampled[head], resample_table(table[head], 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_resampling_keeps_the_type(dtype):
    assert resample_table(random_table(7, 4).to(dtype), 5).dtype == dtype
    assert resample_grid(random_table(12, 4).to(dtype), (3, 4), (6, 8)).dtype == dtype


def test_a_grid_of_the_wanted_size_is_passed_on():
    grid = random_table(12, 5)
    assert resample_grid(grid, (3, 4), (3, 4)) is grid


@pytest.mark.parametrize("to_hw", [(6, 8), (2, 3), (4, 3), (3, 9)])
def test_a_constant_grid_stays_constant(to_hw):
    vector = random_table(5)
    resampled = resample_grid(vector.expand(12, 5), (3, 4), to_hw)
    torch.testing.assert_close(resampled, vector.expand(to_hw[0] * to_hw[1], 5))


def test_a_grid_keeps_its_rows_and_columns_apart():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(12.0), indexing="ij")
    grid = torch.stack((rows, columns), dim=-1).flatten(0, 1)
    halved = resample_grid(grid, (8, 12), (4, 6)).reshape(4, 6, 2)
    # Halfway between two tokens the cubic is exact on a ramp, away from the border.
    expected = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij"), dim=-1) * 2 + 0.5
    torch.testing.assert_close(halved[1:-1, 1:-1], expected[1:-1, 1:-1])


def test_only_positions_of_another_shape_are_resampled_in_a_state():
    state = {
        "a.row_table": random_table(7, 4),
        "a.column_table": random_table(5, 4),
        "position_embedding": random_table(12, 4),
        "conv.weight": random_table(3, 3),
        "left_over": random_table(2),
    }
    wanted = {
        "a.row_table": torch.Size((15, 4)),
        "a.column_table": torch.Size((5, 4)),
        "position_embedding": torch.Size((32, 4)),
        "conv.weight": torch.Size((2, 2)),
    }
    fitted = resample_state(state, wanted, (4, 3), (8, 4))
    torch.testing.assert_close(fitted["a.row_table"], resample_table(state["a.row_table"], 15))
    torch.testing.assert_close(fitted["position_embedding"], resample_grid(state["position_embedding"], (4, 3), (8, 4)))
    for name in ("a.column_table", "conv.weight", "left_over"):
        assert fitted[name] is state[name]
