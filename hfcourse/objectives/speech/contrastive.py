"""wav2vec 2.0 (arXiv 2006.11477): the code of a masked state is told from the codes of other masked states.

The net is transformers' `Wav2Vec2ForPreTraining`, and the losses are its own, over the number of masked states. Its
forward quantizes and projects every state and lays the negatives of each beside it, (K + 1, B, S, P) numbers. Here only
masked states are looked at, and negatives are found in one matrix of similarities for each row.

Shapes: rows B, states S, most masked states of a row L, negatives K, width of what is compared P, groups of codes G,
codes of a group V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.speech.quantizer import perplexity
from hfcourse.data.spans import meeting_spans, places
from hfcourse.errors import ConfigError
from hfcourse.heads.spec import HeadSpec
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.base import Draws, SpeechObjective, few_codes, keep_samples_constant, states_of
from hfcourse.peft.wrap import unwrapped

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import Wav2Vec2

_SPANS, _NEGATIVES, _STRAYS = range(1, 4)
"""Streams of draws."""
_EQUAL = 1e-4
"""Cosines that differ by less are the same. In health they come down to 3e-3 before anything is learned."""


class Contrastive(SpeechObjective):
    """Cross entropy of the own code among those of other masked states, and how little of the codebook is used.

    The batch holds ``frame_mask`` (B, S) bool, ``masked`` (B, L), the masked states of each row in order and -1 behind
    the last, ``positions``, the same as flat indices without the -1, and ``negatives`` (B, L, K), numbers among those
    of the same row; where negatives from elsewhere are asked for also ``strays`` (B, L, E), flat indices into the
    (B, L). Both terms count masked states. The second is taken over one forward pass, as transformers has it: it alone,
    and negatives from elsewhere, depend on how a batch is cut.
    """

    head = HeadSpec(kind="wav2vec2")

    def __init__(self, settings: Wav2Vec2) -> None:
        self.settings = settings
        self.weights = {"diversity": settings.diversity}
        self.quantizer: Any = None

    def bind(self, model: nn.Module) -> None:
        """Note what is learned in the model's config, so that the saved one tells.

        Raises:
            ConfigError: not one of transformers' nets with a codebook.
        """
        inner: Any = unwrapped(model)
        if not all(hasattr(inner, name) for name in ("quantizer", "project_hid", "project_q")):
            raise ConfigError(f"{type(inner).__name__} has no codebook, which wav2vec2 learns: take wav2vec2-tiny")
        config, self.quantizer = inner.config, inner.quantizer
        config.num_negatives, config.diversity_loss_weight = self.settings.negatives, self.settings.diversity
        config.contrastive_logits_temperature = self.settings.temperature
        keep_samples_constant(inner.base_model)
        self.begin(0)

    def begin(self, step: int) -> None:
        self.after_step(step)

    def after_step(self, step: int) -> None:
        first, least, factor = self.settings.gumbel
        self.quantizer.temperature = max(first * factor**step, least)

    def counts(self, batch: Batch) -> dict[str, int]:
        return dict.fromkeys(("contrastive", "diversity"), int((batch["masked"] >= 0).sum()))

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        settings = self.settings
        mask = meeting_spans(states, settings.mask_rate, settings.span, draws(_SPANS, int(states.max()) + 1))
        masked = places(mask)
        rows, longest = masked.shape
        drawn = draws(_NEGATIVES, longest * settings.negatives).reshape(rows, longest, settings.negatives)
        others = mask.sum(axis=1)[:, None, None] - 1
        negatives = (drawn * others).astype(np.int32)
        # Among the others alone: those from a state's own number on move up by one. A state without others is its own
        # negative, which is left out as every equal code is.
        negatives += (negatives >= np.arange(longest)[:, None]) & (others > 0)
        positions = np.flatnonzero(mask)  # here, and not on a device, which would have to be waited for
        drawn_batch = {"frame_mask": mask, "masked": masked, "positions": positions, "negatives": negatives}
        if settings.elsewhere:
            drawn = draws(_STRAYS, longest * settings.elsewhere).reshape(rows, longest, settings.elsewhere)
            drawn_batch["strays"] = _strays(mask.sum(axis=1), drawn)
        return drawn_batch

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        parallel: Any = model
        inner: Any = unwrapped(parallel.module if hasattr(model, "module") else model)
        with forward_as(inner, lambda given: compared(inner, given)):
            found = model(batch)
        with torch.autocast(found["context"].device.type, enabled=False):
            return self._judged(found, batch)

    def _judged(self, found: dict[str, Tensor], batch: Batch) -> Output:
        """Losses and logs of what was compared, in fp32."""
        real, others = batch["masked"] >= 0, batch["negatives"].long()
        number = real.sum()
        context, targets = (F.normalize(found[name].float(), dim=-1) for name in ("context", "targets"))
        similar = context @ targets.transpose(1, 2)
        positive, negative = similar.diagonal(dim1=1, dim2=2), similar.gather(2, others)
        same = found["codes"].gather(1, others.flatten(1)).view_as(others) == found["codes"][..., None]
        if "strays" in batch:
            far, strays = context.flatten(0, 1) @ targets.flatten(0, 1).T, batch["strays"].long()
            negative = torch.cat([negative, far.gather(1, strays.flatten(0, 1)).view(strays.shape)], dim=-1)
            strange = found["codes"].flatten()[strays] == found["codes"][..., None]
            same = torch.cat([same, strange], dim=-1)
        wrong = negative.masked_fill(same, -torch.inf)
        logits = torch.cat([positive[..., None], wrong], dim=-1) / self.settings.temperature
        loss = ((logits.logsumexp(dim=-1) - logits[..., 0]) * real).sum() / number
        shares = torch.tensordot(real.float(), found["shares"], dims=2) / number
        unused = 1 - torch.xlogy(shares, shares).sum(dim=-1).neg().exp().sum() / shares.numel()
        mean = negative.mean(dim=-1)
        logs = {
            "accuracy": ((positive > wrong.amax(dim=-1)) * real).sum(),
            "positive": (positive * real).sum(),
            "negative": (mean * real).sum(),
            "apart": ((positive - mean).abs() * real).sum(),
            "perplexity": perplexity(torch.tensordot(real.float(), found["likeliest"], dims=2) / number) * number,
            "masked": number / batch["states"].sum() * number,
        }
        return Output(
            losses={"contrastive": loss, "diversity": unused},
            logs={f"contrastive/{name}": total.detach() for name, total in logs.items()},
        )

    def collapse(self, logs: Mapping[str, float]) -> str:
        groups, codes = self.quantizer.num_groups, self.quantizer.num_vars
        name = "contrastive/perplexity"
        # Of the two groups together it is 2 where each holds one code.
        few = few_codes({name: logs[name] / groups} if name in logs else {}, name, codes)
        apart = logs.get("contrastive/apart", 1.0)
        equal = f"equal_targets: the cosines of positives and negatives differ by {apart:.6f}" if apart < _EQUAL else ""
        return few or equal


def _strays(counts: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Masked states of other rows, as flat indices into (B, L); a state's own where no other row has any.

    Args:
        counts: masked states of each row, (B,).
        drawn: uniform numbers, (B, L, E).
    """
    rows, longest, _ = drawn.shape
    flat = np.flatnonzero(np.arange(longest) < counts[:, None])
    begins, others = (counts.cumsum() - counts)[:, None, None], (counts.sum() - counts)[:, None, None]
    number = (drawn * others).astype(np.int64)
    number += np.where(number >= begins, counts[:, None, None], 0)
    own = np.arange(rows * longest).reshape(rows, longest, 1)
    strays: np.ndarray = np.where(others > 0, flat[np.minimum(number, len(flat) - 1)], own)
    return strays


@contextmanager
def forward_as(model: nn.Module, forward: Callable[[Batch], dict[str, Tensor]]) -> Iterator[None]:
    """Within the block the model's forward is another, so that what is wrapped around it (processes) stays in force."""
    before = model.__dict__.get("forward")
    model.__dict__["forward"] = forward
    try:
        yield
    finally:
        del model.__dict__["forward"]
        if before is not None:
            model.__dict__["forward"] = before


def compared(model: Any, batch: Batch) -> dict[str, Tensor]:
    """What is compared at masked states: ``context`` and ``targets`` (B, L, P), and what `quantized` tells."""
    at = batch["masked"].clamp(min=0)[..., None]
    with last_layer_at(model, batch["positions"]):
        output = states_of(model.base_model, batch, mask_time_indices=batch["frame_mask"])
    states, features = (
        every.gather(1, at.expand(-1, -1, every.shape[2]))
        for every in (output.last_hidden_state, output.extract_features)
    )
    entries, found = quantized(model.quantizer, model.dropout_features(features))
    return found | {"context": model.project_hid(states), "targets": model.project_q(entries)}


def quantized(quantizer: Any, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Entries of transformers' codebook for features (B, L, C): drawn in training, the likeliest otherwise.

    Returns:
        The entries (B, L, G x width of one), and of each state ``codes`` (B, L), a number that two states share where
        all their codes are the same, ``shares`` (B, L, G, V), how probable each code was, and ``likeliest`` (same).
    """
    groups, count = quantizer.num_groups, quantizer.num_vars
    logits = quantizer.weight_proj(features).float().unflatten(-1, (groups, count))
    likeliest = F.one_hot(logits.argmax(dim=-1), count).to(logits.dtype)
    chosen, shares = likeliest, likeliest
    if quantizer.training:
        chosen = F.gumbel_softmax(logits, tau=quantizer.temperature, hard=True)
        shares = logits.softmax(dim=-1)
    entries = torch.einsum("blgv,gvd->blgd", chosen, quantizer.codevectors.unflatten(1, (groups, count))[0])
    places = count ** torch.arange(groups, device=features.device)
    codes = (chosen.argmax(dim=-1) * places).sum(dim=-1)
    return entries.flatten(2), {"codes": codes, "shares": shares, "likeliest": likeliest}
