"""SpecAugment (arXiv 1904.08779) inside a net: which channels there are to mask, and how masks that are given act."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hfcourse.backbones.speech.features import mask_of
from hfcourse.errors import ModelError


def maskable_channels(config: Any) -> int:
    """How many channels a net has that can be masked: bands of a filterbank, or those of a state.

    Raises:
        ModelError: a net that takes no masks.
    """
    if config.model_type == "hfcourse_frames":
        return int(config.mels)
    if not (hasattr(config, "conv_kernel") and hasattr(config, "mask_time_prob")):
        raise ModelError(
            f"a {config.model_type} net takes no masks: leave out augment.time_masks and augment.channel_masks, or "
            "take one that reads filterbanks, or a wav2vec2, hubert, wavlm or data2vec-audio net"
        )
    if not (config.apply_spec_augment and (config.mask_time_prob > 0 or config.mask_feature_prob > 0)):
        raise ModelError(
            f"this {config.model_type} net has no embedding for masked states (its config.json says apply_spec_augment "
            f"{config.apply_spec_augment}, mask_time_prob {config.mask_time_prob}): leave out augment.time_masks and "
            "augment.channel_masks"
        )
    return int(config.hidden_size)


def masked(
    features: Tensor, counts: Tensor | None, time: Tensor | None, channels: Tensor | None, *, mels: int
) -> Tensor:
    """Features (B, S, F) whose masked places hold the row's mean over time and channels, 0 where features have CMVN.

    Args:
        features: channel c of every order of differences and of every stacked frame is at c, c + `mels`, ...
        counts: frames of each row that are no padding, (B,); None for all.
        time: masked frames, bool (B, S); None for none.
        channels: masked channels, bool (B, `mels`); None for none.
        mels: channels of the filterbank.
    """
    if time is None and channels is None:
        return features
    counts = torch.full((len(features),), features.shape[1], device=features.device) if counts is None else counts
    inside = mask_of(counts, features.shape[1])[..., None]
    total = (features * inside).sum(dim=1, keepdim=True)
    # Static features and each order of differences have a level of their own.
    level = total.unflatten(2, (-1, mels)).mean(dim=3).repeat_interleave(mels, dim=2)
    mean = level / counts.clamp(min=1)[:, None, None]
    if time is not None:
        features = torch.where(time[..., None], mean, features)
    if channels is not None:
        bands = channels.repeat(1, features.shape[2] // mels)[:, None]
        features = torch.where(bands & inside, mean, features)
    return features


@contextlib.contextmanager
def channels_silent(backbone: nn.Module, channels: Tensor) -> Iterator[None]:
    """Within the block channels (B, H) of what goes into a net's layers are 0, as transformers' own masks have it.

    Its classes draw these masks by themselves; given ones are let in where they would act: behind those of time.
    """
    encoder: Any = backbone.encoder

    def silence(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states, *others = inputs
        return states.masked_fill(channels[:, None], 0.0), *others

    handle = encoder.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()
