"""The sum of layers, against the formula worked out state by state."""

from __future__ import annotations

import torch

from hfcourse.heads.base import LayerMix


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
