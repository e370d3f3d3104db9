"""Log-mel filterbanks as a module: on the model's device, for a padded batch at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        with torch.autocast(input_values.device.type, enabled=False):
            frames = self._spectrogram(input_values.device)(input_values.float()).clamp(min=_FLOOR).log()
            found = with_deltas(frames.transpose(1, 2), counts, self.deltas)
            return normalised(found, counts) if self.cmvn else found / _SCALE


class KaldiMel(nn.Module):
    """The same as Kaldi makes them (and torchaudio's `compliance.kaldi.fbank`, for one waveform at a time).

    Each window without its mean, with pre-emphasis, under a Povey or Hamming window; with `cmvn` the variance of a
    channel is that of a sample. Channels are not scaled otherwise.
    """

    def __init__(
        self, *, sample_rate: int, mels: int, window: int, hop: int, shape: str, deltas: int = 0, cmvn: bool = True
    ) -> None:
        """`shape` of the window: povey or hamming; the others as `LogMel` has them."""
        super().__init__()
        self.sample_rate, self.mels, self.window, self.hop = sample_rate, mels, window, hop
        self.shape, self.deltas, self.cmvn = shape, deltas, cmvn
        self._made: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def _parts(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The window (window,) and the bank (frequencies, mels)."""
        if device not in self._made:
            from torchaudio.compliance.kaldi import get_mel_banks

            if self.shape == "hamming":
                window = torch.hamming_window(self.window, periodic=False)
            else:
                window = torch.hann_window(self.window, periodic=False).pow(0.85)
            bank, _ = get_mel_banks(self.mels, self._width, self.sample_rate, 20.0, 0.0, 100.0, -500.0, 1.0)
            # It has no weight at the highest frequency.
            self._made[device] = window.to(device), F.pad(bank, (0, 1)).T.to(device)
        return self._made[device]

    @property
    def _width(self) -> int:
        """Samples of a transform: the next power of two."""
        return 1 << (self.window - 1).bit_length()

    @torch.no_grad()
    def forward(self, input_values: Tensor, counts: Tensor | None) -> Tensor:
        """Frames (B, F, mels) of samples (B, T); `counts` (B,) of them are no padding, None where all are."""
        with torch.autocast(input_values.device.type, enabled=False):
            window, bank = self._parts(input_values.device)
            frames = input_values.float().unfold(1, self.window, self.hop)
            frames = frames - frames.mean(dim=-1, keepdim=True)
            frames = (frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)) * window
            energies = torch.fft.rfft(frames, n=self._width).abs().square() @ bank
            found = with_deltas(energies.clamp(min=torch.finfo(torch.float32).eps).log(), counts, self.deltas)
            return normalised(found, counts, correction=1, epsilon=1e-10) if self.cmvn else found


def with_deltas(frames: Tensor, counts: Tensor | None, orders: int) -> Tensor:
    """Frames (B, F, C) with so many orders of differences over time behind the channels, as torchaudio computes them.

    Behind the last of a row's `counts` (B,) frames that one is taken for the next, as behind the end of a batch.
    """
    import torchaudio.functional

    parts = [frames]
    for _ in range(orders):
        last = parts[-1]
        if counts is not None:
            at = torch.arange(frames.shape[1], device=frames.device).minimum(counts.clamp(min=1)[:, None] - 1)
            last = last.gather(1, at[..., None].expand_as(last))
        parts.append(torchaudio.functional.compute_deltas(last.transpose(1, 2)).transpose(1, 2))
    return torch.cat(parts, dim=2)


def normalised(frames: Tensor, counts: Tensor | None, correction: int = 0, epsilon: float = 1e-5) -> Tensor:
    """Frames (B, F, C) with mean 0 and variance 1 in each channel of each row; zeros where padded.

    `correction` is 1 for the variance of a sample, and `epsilon` is added to deviations.
    """
    if counts is None:
        centred = frames - frames.mean(dim=1, keepdim=True)
        others = max(frames.shape[1] - correction, 1)  # a frame alone has no variance: it is 0, as in a padded batch
        return centred / ((centred.square().sum(dim=1, keepdim=True) / others).sqrt() + epsilon)
    inside = (torch.arange(frames.shape[1], device=frames.device) < counts[:, None])[..., None]
    number = counts.clamp(min=1)[:, None, None]
    mean = (frames * inside).sum(dim=1, keepdim=True) / number
    centred = (frames - mean) * inside
    variance = centred.square().sum(dim=1, keepdim=True) / (number - correction).clamp(min=1)
    return centred / (variance.sqrt() + epsilon)


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
