"""A random codebook that never learns says what a masked frame is: BEST-RQ (arXiv 2202.01855)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.speech.quantizer import perplexity
from hfcourse.data.spans import meeting_spans
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.base import Draws, SpeechObjective, few_codes
from hfcourse.peft.wrap import unwrapped

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import BestRQ

_SPANS, _NOISE = range(1, 3)
"""Streams of draws."""
_DEVIATION = 0.1
"""Of the noise that masked frames become."""
_NOISES = 1024
"""So many frames of noise are drawn once; which of them a masked frame becomes depends on its row alone."""


class RandomCodes(SpeechObjective):
    """Cross entropy of the codes at masked states.

    The batch holds ``masked`` (B, S) bool and ``noise`` (B, S), the numbers of the noise frames.
    """

    def __init__(self, settings: BestRQ) -> None:
        self.settings = settings
        self.inner: Any = None
        self.codebook: Any = None
        self.head_module: Any = None

    def bind(self, model: nn.Module) -> None:
        """Draw projection, codebook and noise, and make the head.

        Raises:
            ConfigError: a backbone that is no Transformer on filterbanks.
        """
        self.inner = unwrapped(model)
        config = self.inner.config
        if getattr(config, "layers", "") not in {"transformer", "causal"}:
            raise ConfigError("best_rq masks frames of filterbanks: take best_rq-tiny or another Transformer on them")
        self.codebook = RandomCodebook(config.feature_size, self.settings.codes, self.settings.code_size)
        self.head_module = nn.Linear(config.hidden_size, self.settings.codes)

    def modules_to_train(self) -> list[nn.Module]:
        """The head, and the codebook, which never learns but is kept in checkpoints."""
        return [self.head_module, self.codebook]

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"codes": int(batch["masked"].sum())}

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        settings, width = self.settings, int(states.max())
        return {
            "masked": meeting_spans(states, settings.mask_rate, settings.span, draws(_SPANS, width + 1)),
            "noise": (draws(_NOISE, width) * _NOISES).astype(np.int64),
        }

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        frames, counts = self.inner.features(batch["input_values"], batch.get("attention_mask"))
        masked = batch["masked"]
        places = masked.flatten().nonzero().squeeze(1)
        targets = self.codebook(frames.flatten(0, 1)[places])
        heard = frames.masked_scatter(masked[..., None], self.codebook.noise[batch["noise"].flatten()[places]])
        with self._last_layer_at(places):
            states = model(features=heard, counts=counts).last_hidden_state
        logits = self.head_module(states.flatten(0, 1)[places]).float()
        loss = F.cross_entropy(logits, targets)
        best, number = logits.detach().argmax(dim=-1), len(places)
        logs = {
            "codes/accuracy": (best == targets).sum(),
            "codes/perplexity": self._perplexity(targets) * number,
            "codes/answered_perplexity": self._perplexity(best) * number,
            "codes/masked": number / batch["states"].sum() * number,
        }
        return Output(losses={"codes": loss}, logs=logs)

    def collapse(self, logs: Mapping[str, float]) -> str:
        return few_codes(logs, "codes/perplexity", self.settings.codes)

    def _last_layer_at(self, places: Tensor) -> contextlib.AbstractContextManager[None]:
        """The stack above the frames computes what is judged alone; a compiled model all of it."""
        compiled = self.inner._compiled_call_impl is not None
        return contextlib.nullcontext() if compiled else last_layer_at(self.inner.encoder, places)

    def _perplexity(self, codes: Tensor) -> Tensor:
        """Of the codes (M,) in use."""
        return perplexity(torch.bincount(codes, minlength=self.settings.codes)[None] / max(len(codes), 1))


class RandomCodebook(nn.Module):
    """Frames -> the number of the nearest entry of a random codebook, in a random projection. Nothing in it learns."""

    projection: Tensor
    entries: Tensor
    noise: Tensor

    def __init__(self, channels: int, codes: int, size: int) -> None:
        """Draw all of it.

        Args:
            channels: of a frame.
            codes: entries.
            size: width of an entry.
        """
        super().__init__()
        self.register_buffer("projection", nn.init.xavier_uniform_(torch.empty(channels, size)))
        self.register_buffer("entries", F.normalize(torch.randn(codes, size), dim=-1))
        self.register_buffer("noise", _DEVIATION * torch.randn(_NOISES, channels))

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, C), normalised -> codes int64 (M,).

        The entry nearest to a projected frame when both are of length 1 is the one with the largest product, whatever
        the frame's length.
        """
        with torch.autocast(frames.device.type, enabled=False):  # close codes must not change places by rounding
            nearest: Tensor = (frames.float() @ self.projection @ self.entries.T).argmax(dim=-1)
        return nearest
