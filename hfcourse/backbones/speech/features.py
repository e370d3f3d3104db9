"""Log-mel filterbanks as a module: on the model's device, for a padded batch at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hfcourse.backbones.speech.rate import state_counts

_FLOOR = 1e-6
"""Energies below are taken for it: far under the quietest speech, and a finite logarithm."""
_SCALE = 4.0
"""About the standard deviation of log energies of speech."""


class LogMel(nn.Module):
    """Samples (B, T) -> log-mel frames (B, F, mels), F = (T - window) // hop + 1: at whole windows alone.

    With `cmvn` each channel of an utterance has mean 0 and variance 1; padded frames are 0 and take no part. Without it
    all channels are scaled alike, by constants: the mean over time then still tells what was heard.
    """

    def __init__(
        self, *, sample_rate: int, mels: int, window: int, hop: int, deltas: int = 0, cmvn: bool = True
    ) -> None:
        """`deltas`: so many orders of differences over time are put behind the channels."""
        super().__init__()
        self.cmvn = cmvn
        self.sample_rate, self.mels = sample_rate, mels
        self.window, self.hop, self.deltas = window, hop, deltas
        # No submodules: what follows from the settings is made where it is first used, and is in no checkpoint.
        self._made: dict[torch.device, Callable[[Tensor], Tensor]] = {}

    def _spectrogram(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        if device not in self._made:
            import torchaudio.transforms

            self._made[device] = torchaudio.transforms.MelSpectrogram(
                self.sample_rate, n_fft=self.window, hop_length=self.hop, n_mels=self.mels, center=False
            ).to(device)
        return self._made[device]

    @torch.no_grad()
    def forward(self, input_values: Tensor, counts: Tensor | None) -> Tensor:
        """`counts` (B,) are the frames of each row that are no padding; None where all are."""
        import torchaudio.functional

        with torch.autocast(input_values.device.type, enabled=False):
            frames = self._spectrogram(input_values.device)(input_values.float()).clamp(min=_FLOOR).log()
            parts = [frames]
            for _ in range(self.deltas):
                parts.append(torchaudio.functional.compute_deltas(parts[-1]))
            found = torch.cat(parts, dim=1).transpose(1, 2)
            return normalised(found, counts) if self.cmvn else found / _SCALE


def normalised(frames: Tensor, counts: Tensor | None) -> Tensor:
    """Frames (B, F, C) with mean 0 and variance 1 in each channel of each row; zeros where padded."""
    if counts is None:
        return (frames - frames.mean(dim=1, keepdim=True)) / (frames.std(dim=1, keepdim=True, correction=0) + 1e-5)
    inside = (torch.arange(frames.shape[1], device=frames.device) < counts[:, None])[..., None]
    number = counts.clamp(min=1)[:, None, None]
    mean = (frames * inside).sum(dim=1, keepdim=True) / number
    centred = (frames - mean) * inside
    return centred / ((centred.square().sum(dim=1, keepdim=True) / number).sqrt() + 1e-5)


def stacked(frames: Tensor, stack: int) -> Tensor:
    """(B, F, C) -> (B, F // stack, stack x C): neighbouring frames side by side; what is left over at the end goes."""
    if stack == 1:
        return frames
    rows, count, channels = frames.shape
    whole = count // stack
    return frames[:, : whole * stack].reshape(rows, whole, stack * channels)


def mask_of(counts: Tensor, width: int) -> Tensor:
    """(B, width), true where a state of a row is no padding."""
    return torch.arange(width, device=counts.device) < counts[:, None]


def counts_of(config: object, attention_mask: Tensor | None) -> Tensor | None:
    """States of each row that are no padding, (B,), from a mask over samples (B, T)."""
    return None if attention_mask is None else state_counts(config, attention_mask.sum(dim=1).long())
