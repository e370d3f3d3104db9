"""How loud a sound is, for convolutions whose output is normalised over channels in every state."""

from __future__ import annotations

from typing import Any

from torch import nn

_SPREAD = 2.0
"""Deviation of the biases, beside sound of variance 1."""


def hear_loudness(model: nn.Module) -> None:
    """Spread the biases of a fresh data2vec net's first convolution, where it has any (the paper's has none).

    What a state's norm over channels leaves of loudness is what the biases weigh beside the sound, and transformers
    starts them so small that quiet sound alone shows any. Of a net at random, commands are then told from 16 to 24 per
    cent (docs/LOG.md): what a teacher says of sound before anyone has learned is what a student begins with.
    """
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        encoder: Any = getattr(module, "feature_extractor", None)
        if encoder is not None and getattr(config, "model_type", "") == "data2vec-audio" and config.conv_bias:
            nn.init.normal_(encoder.conv_layers[0].conv.bias, std=_SPREAD)
