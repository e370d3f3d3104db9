"""The sum of layers, against the formula worked out state by state; standardised rows, against BatchNorm."""

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


def test_standardised_rows_are_those_of_batch_norm() -> None:
    torch.manual_seed(0)
    ours, theirs = Standardize(6), torch.nn.BatchNorm1d(6, affine=False)
    for _ in range(300):
        rows = 5 * torch.randn(8, 6) + torch.arange(6.0)
        torch.testing.assert_close(ours(rows), theirs(rows), rtol=1e-4, atol=1e-5)
    # After 300 steps neither knows how it began.
    torch.testing.assert_close(ours.mean, theirs.running_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.variance, theirs.running_var, rtol=1e-4, atol=1e-4)
    ours.eval()
    expected = (rows - ours.mean) / (ours.variance + 1e-5).sqrt()
    torch.testing.assert_close(ours(rows), expected)


def test_running_averages_begin_as_plain_means() -> None:
    torch.manual_seed(0)
    standardize, batches = Standardize(3), torch.randn(4, 16, 3) + 7
    for batch in batches:
        standardize(batch)
    torch.testing.assert_close(standardize.mean, batches.mean(dim=(0, 1)))
    torch.testing.assert_close(standardize.variance, batches.var(dim=1).mean(dim=0))


def test_padding_does_not_count_and_a_single_row_takes_the_averages() -> None:
    torch.manual_seed(0)
    padded, mask = torch.randn(2, 5, 4), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    one, other = Standardize(4), Standardize(4)
    padded[1, 2:] = 1e6
    torch.testing.assert_close(one(padded, mask)[mask], other(torch.cat([padded[0], padded[1, :2]])))
    before = one.mean.clone()
    alone = torch.randn(1, 4)
    torch.testing.assert_close(one(alone), (alone - one.mean) / (one.variance + 1e-5).sqrt())
    torch.testing.assert_close(one.mean, before, rtol=0, atol=0)
