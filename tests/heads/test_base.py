"""The sum of layers, against the formula worked out state by state; standardised rows, against all that were seen."""

from __future__ import annotations

import torch

from hfcourse.heads.base import LayerMix, Standardize


def test_layers_are_normalised_and_summed_with_softmax_weights() -> None:
    torch.manual_seed(0)
    layers = tuple(scale * torch.randn(2, 3, 5) + scale for scale in (1.0, 100.0, 0.01))
    mix = LayerMix(3)
    with torch.no_grad():
        mix.scalars.copy_(torch.tensor([0.0, 1.0, -1.0]))
    weights = [w / (1 + 2.718281828 + 0.367879441) for w in (1.0, 2.718281828, 0.367879441)]
    for row in range(2):
        for t in range(3):
            expected = torch.zeros(5)
            for weight, layer in zip(weights, layers, strict=True):
                state = layer[row, t]
                centred = state - state.mean()
                expected += weight * centred / (centred.square().mean() + 1e-5).sqrt()
            torch.testing.assert_close(mix(layers)[row, t], expected, rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_larger_counts_no_more() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    torch.testing.assert_close(LayerMix(2)((one, other)), LayerMix(2)((one, 1000 * other)), rtol=1e-3, atol=1e-3)


def test_numbers_are_standardised_by_all_rows_so_far() -> None:
    torch.manual_seed(0)
    standardize, seen = Standardize(6), torch.empty(0, 6)
    for size in (8, 1, 30, 5):
        batch = 5 * torch.randn(size, 6) + torch.arange(6.0)
        seen = torch.cat([seen, batch])
        expected = (batch - seen.mean(dim=0)) / (seen.var(dim=0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(standardize(batch), expected, rtol=1e-4, atol=1e-4)
    standardize.eval()
    later = torch.randn(3, 6)
    expected = (later - seen.mean(dim=0)) / (seen.var(dim=0, correction=0) + 1e-5).sqrt()
    for _ in range(2):  # nothing is followed any more
        torch.testing.assert_close(standardize(later), expected, rtol=1e-4, atol=1e-4)


def test_old_batches_are_forgotten_by_and_by() -> None:
    torch.manual_seed(0)
    standardize, mean, square = Standardize(1), 0.0, 1.0
    for number in range(1, 251):
        batch = torch.randn(4, 1) + number / 50
        standardize(batch)
        share = max(1 / number, 0.01)
        mean += share * (float(batch.mean()) - mean)
        square += share * (float(batch.square().mean()) - square)
    torch.testing.assert_close(standardize.mean, torch.tensor([mean]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(standardize.square, torch.tensor([square]), rtol=1e-4, atol=1e-4)


def test_what_goes_along_with_length_stays_where_batches_are_of_one_length() -> None:
    """The same rows in sorted batches and in random ones end with the same moments; BatchNorm would not see them."""
    torch.manual_seed(0)
    rows = torch.linspace(-3, 3, 320)[:, None] + 0.1 * torch.randn(320, 1)
    batches = list(rows.split(32))
    standardize = Standardize(1)
    for _ in range(20):
        for number in torch.randperm(10).tolist():
            read = standardize(batches[number])
    expected = (batches[number] - rows.mean()) / rows.std()
    torch.testing.assert_close(read, expected, rtol=0.1, atol=0.1)


def test_padding_and_broken_batches_do_not_count() -> None:
    torch.manual_seed(0)
    padded, mask = torch.randn(2, 5, 4), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    padded[1, 2:] = torch.nan
    one, other = Standardize(4), Standardize(4)
    torch.testing.assert_close(one(padded, mask)[mask], other(torch.cat([padded[0], padded[1, :2]])))
    torch.testing.assert_close(one.state_dict(), other.state_dict())
    before = one.mean.clone(), one.square.clone()
    one(torch.full((3, 4), torch.inf))
    torch.testing.assert_close((one.mean, one.square), before, rtol=0, atol=0)
