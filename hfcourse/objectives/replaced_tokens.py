"""Replaced-token detection (ELECTRA, arXiv 2003.10555): a generator corrupts, the model finds what was replaced."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.errors import ConfigError
from hfcourse.heads.losses import linear_cross_entropy
from hfcourse.heads.spec import HeadSpec
from hfcourse.native import native_class
from hfcourse.objectives.base import Batch, Objective, Output
from hfcourse.objectives.masked_lm import masked_states_only
from hfcourse.peft.wrap import unwrapped

DISCRIMINATOR_WEIGHT = 50.0
"""The paper's factor of the discriminator's loss, which is averaged over all tokens and small."""

_CHUNK = 512
"""Masked positions whose probabilities over the vocabulary are held at once."""


class ReplacedTokens(Objective):
    """Masked-LM loss of the generator + 50 x the discriminator's binary cross entropy over all tokens.

    The generator is the discriminator's own architecture with a quarter of its layers, and shares its embeddings. It
    is trained with the model and thrown away afterwards. No gradient flows through the sampled tokens. The batch
    holds ``input_ids`` with masks, ``labels`` and ``positions`` as for `MaskedLM`, and ``draws`` (M,), the uniform
    numbers that decide the samples.
    """

    def __init__(self, weight: float = DISCRIMINATOR_WEIGHT) -> None:
        self.weights = {"generator": 1.0, "replaced_tokens": weight}
        self.generator: Any = None

    def bind(self, model: nn.Module) -> None:
        """Make the generator.

        Raises:
            ConfigError: the backbone has no masked-LM class to generate with.
        """
        whole = unwrapped(model)
        inner = getattr(whole, str(whole.base_model_prefix))
        config = copy.deepcopy(inner.config)
        config.num_hidden_layers = max(1, config.num_hidden_layers // 4)
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        generator_class = native_class(config, [HeadSpec(kind="masked_lm")])
        if generator_class is None:
            raise ConfigError(
                f"task.replaced_tokens: a {config.model_type} backbone has no masked-LM class as generator"
            )
        self.generator = generator_class(config)
        self.generator.set_input_embeddings(inner.get_input_embeddings())
        self.generator.tie_weights()

    def modules_to_train(self) -> list[nn.Module]:
        return [] if self.generator is None else [self.generator]

    def counts(self, batch: Batch) -> dict[str, int]:
        mask = batch.get("attention_mask")
        tokens = batch["input_ids"].numel() if mask is None else int(mask.sum())
        return {"generator": len(batch["positions"]), "replaced_tokens": tokens}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        assert self.generator is not None
        positions, originals = batch["positions"], batch["labels"].flatten()[batch["positions"]]
        inputs = {k: v for k, v in batch.items() if k not in {"labels", "positions", "draws"}}
        self.generator.train(model.training)
        with last_layer_at(self.generator, positions), masked_states_only(self.generator, positions):
            states = self.generator(**inputs).logits.squeeze(0)
        projection = self.generator.get_output_embeddings()
        generator_loss = linear_cross_entropy(states, projection.weight, projection.bias, originals)
        with torch.no_grad():
            parts = zip(states.split(_CHUNK), batch["draws"].split(_CHUNK), strict=True)
            sampled = torch.cat([sample(projection(some), draws) for some, draws in parts])
        corrupted = inputs["input_ids"].flatten().index_copy(0, positions, sampled).view_as(inputs["input_ids"])
        # A sample that happens to be right is an original.
        replaced = torch.zeros_like(corrupted).flatten().index_copy(0, positions, (sampled != originals).long())
        output = model(**{**inputs, "input_ids": corrupted})
        logits, labels = output.logits, replaced.view_as(corrupted)
        losses = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
        mask = batch.get("attention_mask")
        loss = losses.mean() if mask is None else (losses * mask).sum() / mask.sum()
        found = {"logits": logits, "labels": labels} if need_logits else None
        return Output(losses={"generator": generator_loss, "replaced_tokens": loss}, logits=found)


def sample(logits: Tensor, draws: Tensor) -> Tensor:
    """One entry a row from softmax(logits) (M, V), by inverting its cumulative sum at `draws` (M,)."""
    cumulative = logits.float().softmax(dim=-1).cumsum(dim=-1)
    picked = torch.searchsorted(cumulative, (draws.to(cumulative.dtype) * cumulative[:, -1]).unsqueeze(1))
    return picked.squeeze(1).clamp(max=logits.shape[-1] - 1)
