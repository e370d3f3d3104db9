"""Masked frames are drawn again: Mockingjay (arXiv 1910.12638), and TERA (2007.06028), which masks channels too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hfcourse.backbones.speech.features import mask_of
from hfcourse.data.spans import fixed_spans
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.autoregressive import constant_frames, spread
from hfcourse.objectives.speech.base import Draws, SpeechObjective
from hfcourse.peft.wrap import unwrapped

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import Mockingjay

_SPANS, _ACTIONS, _CHANNELS, _NOISE, _ELSEWHERE = range(1, 6)
"""Streams of draws."""
_KEEP, _REPLACE = 0.1, 0.2
"""As in BERT: of the utterances a tenth keeps its frames, the next tenth gets others, the rest zeros."""


class MaskedFrames(SpeechObjective):
    """Mean absolute error of the drawn frames at masked positions, and in blanked channels at all of them.

    The batch holds ``frame_mask`` (B, S) bool, ``action`` (B,) in [0, 1) and ``elsewhere`` (B, S), the frames that
    replace others; for TERA ``blanked`` (B, 2), the band of channels that is blanked as shares of them all, and
    ``noise`` (B,), the deviation of what is added.
    """

    def __init__(self, settings: Mockingjay) -> None:
        self.settings = settings
        self.head_module: Any = None
        self._channels, self._mels = 0, 1

    def bind(self, model: nn.Module) -> None:
        """Make the head that draws frames again.

        Raises:
            ConfigError: a backbone that hears no filterbanks.
        """
        config: Any = unwrapped(model).config
        if config.model_type != "hfcourse_frames":
            kind = self.settings.kind
            raise ConfigError(f"{kind} masks frames of filterbanks: take {kind}-tiny or another net on them")
        hidden, channels = config.hidden_size, config.feature_size
        self._channels, self._mels = channels, config.mels
        self.head_module = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Linear(hidden, channels)
        )

    def modules_to_train(self) -> list[nn.Module]:
        return [self.head_module]

    def counts(self, batch: Batch) -> dict[str, int]:
        masked = batch["frame_mask"].sum(dim=1)
        if "blanked" not in batch:
            return {"frames": int(masked.sum()) * self._channels}
        blanked = blanked_channels(batch["blanked"], self._channels, self._mels).sum(dim=1)
        return {"frames": int((masked * self._channels + (batch["states"] - masked) * blanked).sum())}

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        settings, width = self.settings, int(states.max())
        mask = fixed_spans(states, settings.mask_rate, settings.span, draws(_SPANS, width))
        drawn: dict[str, np.ndarray] = {
            "frame_mask": mask,
            "action": draws(_ACTIONS, 1)[:, 0].astype(np.float32),
            "elsewhere": (draws(_ELSEWHERE, width) * states[:, None]).astype(np.int64),
        }
        if settings.channels:
            share, first = draws(_CHANNELS, 2).T
            blanked = share * settings.channels
            begin = first * (1 - blanked)
            drawn["blanked"] = np.stack([begin, begin + blanked], axis=1).astype(np.float32)
        if settings.magnitude and draws.epoch >= 0:  # each pass adds other noise, and a net is judged the same twice
            seeds = draws(_NOISE, 2)
            # In 15 % of the utterances, as the paper has it.
            drawn["noise"] = np.where(seeds[:, 0] < 0.15, settings.magnitude, 0.0).astype(np.float32)
        return drawn

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        inner: Any = unwrapped(getattr(model, "module", model))
        frames, counts = inner.features(batch["input_values"], batch.get("attention_mask"))
        mask = batch["frame_mask"][:, : frames.shape[1]]
        heard = corrupted(frames, mask, batch, mels=inner.config.mels)
        states = model(features=heard, counts=counts).last_hidden_state
        if "blanked" in batch:
            judged = blanked_channels(batch["blanked"], frames.shape[2], inner.config.mels)[:, None, :]
            if counts is not None:
                judged = judged & mask_of(counts, frames.shape[1])[..., None]
            judged = judged | mask[..., None]
            every = self.head_module(states).float()
            loss, drawn = (every - frames)[judged].abs().mean(), every[mask]
        else:  # only what is judged is drawn
            drawn = self.head_module(states[mask]).float()
            loss = (drawn - frames[mask]).abs().mean()
        entries = self.counts(batch)["frames"]
        shown = spread(drawn, frames[mask]) / max(len(drawn), 1)
        logs = {"frames/spread": shown * entries, "frames/masked": len(drawn) / batch["states"].sum() * entries}
        return Output(losses={"frames": loss}, logs=logs)

    def collapse(self, logs: Mapping[str, float]) -> str:
        return constant_frames(logs)


def blanked_channels(band: Tensor, channels: int, mels: int) -> Tensor:
    """Which channels of a frame lie in a band, bool (B, C): that of every stacked frame and order of differences.

    Args:
        band: first and last as shares of the filters, (B, 2).
        channels: C, of a frame.
        mels: filters, of which a frame has one or several sets.
    """
    place = (torch.arange(channels, device=band.device) % mels) / mels
    return (place >= band[:, :1]) & (place < band[:, 1:])


def corrupted(frames: Tensor, mask: Tensor, batch: Batch, *, mels: int) -> Tensor:
    """Frames (B, S, C) as the model hears them: masked ones zeroed, replaced or kept, channels blanked, noise added."""
    action = batch["action"][:, None, None]
    places = batch["elsewhere"][:, : frames.shape[1], None].expand_as(frames)
    altered = torch.where(action < _KEEP, frames, torch.where(action < _REPLACE, frames.gather(1, places), 0.0))
    heard = torch.where(mask[..., None], altered, frames)
    if "blanked" in batch:
        heard = heard.masked_fill(blanked_channels(batch["blanked"], frames.shape[2], mels)[:, None, :], 0.0)
    if "noise" in batch:
        heard = heard + batch["noise"][:, None, None] * torch.randn_like(heard)
    return heard
