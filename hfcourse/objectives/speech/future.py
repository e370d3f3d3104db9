"""What comes next is told from what comes elsewhere: CPC, wav2vec and vq-wav2vec.

Papers: arXiv 1807.03748, 1904.05862, 1910.05453. Shapes: rows B, states S, width H, negatives K.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.speech.quantizer import GumbelQuantizer
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.base import Draws, SpeechObjective, few_codes, states_of
from hfcourse.peft.wrap import unwrapped

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import CPC

_NEGATIVES = 1
"""Stream of draws."""


class ContrastiveFuture(SpeechObjective):
    """From a state with context c_t, the state without context z_t+k is told from K others of the same utterance.

    Each step ahead has a projection h_k of its own, and a state scores z . h_k(c_t) / sqrt(H). CPC asks which of K + 1
    states it is (InfoNCE); wav2vec asks of each alone whether it is the one, and a question's loss is the sum over its
    K + 1 answers. A question is a state with a state k ahead.

    The papers have no sqrt(H), and wav2vec's odds are exp(score) where here they are exp(score) / K: right for scores
    of 0, when nothing is known. Small nets with large steps else learn first to say no to everything, and unlearn what
    told states apart, codebooks above all (docs/LOG.md).

    The batch holds ``negatives`` (B, S, K): of each state that is foretold, the states that stand against it.
    """

    def __init__(self, settings: CPC) -> None:
        self.settings = settings
        self.binary, self.coded = settings.kind != "cpc", settings.kind == "vq_wav2vec"
        self.projection: Any = None
        self.quantizer: Any = None

    def bind(self, model: nn.Module) -> None:
        """Make the projections, a step ahead each.

        Raises:
            ConfigError: a backbone without states of both kinds, or with a codebook where none is foretold.
        """
        inner: Any = unwrapped(model)
        config, kind = inner.config, self.settings.kind
        if config.model_type != "hfcourse_conv" or config.context == "none":
            raise ConfigError(f"{kind} needs convolutions with context above them: take {kind}-tiny or its kin")
        self.quantizer = inner.quantizer
        if self.coded != (self.quantizer is not None):
            has = "no codebook" if self.quantizer is None else "a codebook"
            raise ConfigError(f"this net has {has}: {kind} is not made for it, take {kind}-tiny or its kin")
        if isinstance(self.quantizer, GumbelQuantizer):
            temperatures: Any = self.settings
            self.quantizer.temperatures = temperatures.gumbel
            self.quantizer.cool(0)
        hidden = config.hidden_size
        self.projection = nn.Linear(hidden, self.settings.steps * hidden, bias=self.binary)

    def modules_to_train(self) -> list[nn.Module]:
        return [self.projection]

    def counts(self, batch: Batch) -> dict[str, int]:
        states = batch["states"]
        ahead = torch.arange(1, self.settings.steps + 1, device=states.device)
        counts = {"future": int((states[:, None] - ahead).clamp(min=0).sum())}
        return counts | ({"codes": int(states.sum())} if self._moves_codes else {})

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        width, number = int(states.max()), self.settings.negatives
        others = np.maximum(states - 1, 1)[:, None, None]
        found = (draws(_NEGATIVES, width * number).reshape(-1, width, number) * others).astype(np.int64)
        # Every state but the one that is foretold: those from it on move up by one.
        found += found >= np.arange(width)[None, :, None]
        return {"negatives": np.minimum(found, np.maximum(states - 1, 0)[:, None, None])}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        output = states_of(model, batch)
        targets, negatives = output.latents, batch["negatives"]
        foretold = self.projection(output.last_hidden_state).chunk(self.settings.steps, dim=-1)
        scaled = targets.transpose(1, 2) / math.sqrt(targets.shape[-1])
        lengths = scaled.detach().float().norm(dim=1)
        others = lengths.gather(1, negatives.flatten(1)).view(negatives.shape)
        # Rows that are too short for any question have a loss, too: of nothing, but with a gradient.
        sums: dict[str, Any] = {"loss": foretold[0].float().sum() * 0, "right": 0, "true": 0, "false": 0}
        for ahead in range(1, min(self.settings.steps, targets.shape[1] - 1) + 1):
            guess = foretold[ahead - 1][:, :-ahead]
            # All similarities at once: gathering K vectors for each state would move K times the memory.
            similar = guess @ scaled
            true = similar.diagonal(ahead, dim1=1, dim2=2).float()
            false = similar.gather(2, negatives[:, ahead:]).float()
            positions = torch.arange(ahead, targets.shape[1], device=targets.device)
            inside = positions < batch["states"][:, None]
            sums["loss"] = sums["loss"] + (self._losses(true, false) * inside).sum()
            with torch.no_grad():
                length = guess.float().norm(dim=-1)
                sums["right"] += ((true > false.amax(dim=-1)) & inside).sum()
                sums["true"] += (_cosine(true, length * lengths[:, ahead:]) * inside).sum()
                sums["false"] += (_cosine(false, length[..., None] * others[:, ahead:]).mean(dim=-1) * inside).sum()
        counts = self.counts(batch)
        losses = {"future": sums["loss"] / max(counts["future"], 1)}
        logs = {"accuracy": sums["right"], "positive": sums["true"], "negative": sums["false"]}
        if output.perplexity is not None:
            logs["perplexity"] = output.perplexity * counts["future"]
        if output.codes_loss is not None:
            losses["codes"] = output.codes_loss
        return Output(losses, logs={f"future/{name}": torch.as_tensor(value) for name, value in logs.items()})

    def after_step(self, step: int) -> None:
        if isinstance(self.quantizer, GumbelQuantizer):
            self.quantizer.cool(step)
        elif self.quantizer is not None:
            self.quantizer.revive()

    def collapse(self, logs: Mapping[str, float]) -> str:
        gap = logs.get("future/positive", 1.0) - logs.get("future/negative", 0.0)
        if abs(gap) < 1e-3:
            return f"all_alike: what comes is {gap:.5f} more like what is foretold than what comes elsewhere (cosine)"
        if self.quantizer is None:
            return ""
        groups, codes = self.quantizer.groups, self.quantizer.codes
        mean = logs.get("future/perplexity", float(groups * codes)) / groups
        return few_codes({"mean": mean}, "mean", codes)

    @property
    def _moves_codes(self) -> bool:
        return self.quantizer is not None and not isinstance(self.quantizer, GumbelQuantizer)

    def _losses(self, true: Tensor, false: Tensor) -> Tensor:
        """Of each question, (B, S), from the similarities of what comes (B, S) and of what does not (B, S, K)."""
        if self.binary:
            odds = math.log(self.settings.negatives)
            return F.softplus(odds - true) + F.softplus(false - odds).sum(dim=-1)
        return torch.cat([true[..., None], false], dim=-1).logsumexp(dim=-1) - true


def _cosine(product: Tensor, lengths: Tensor) -> Tensor:
    return product / lengths.clamp(min=1e-6)
