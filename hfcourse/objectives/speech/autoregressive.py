"""Frames ahead are foretold: APC (arXiv 1904.03240, 2005.08392), with a codebook VQ-APC (2005.08392)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hfcourse.backbones.speech.features import mask_of
from hfcourse.backbones.speech.quantizer import GumbelQuantizer
from hfcourse.errors import ConfigError
from hfcourse.objectives.base import Batch, Output
from hfcourse.objectives.speech.base import SpeechObjective, few_codes
from hfcourse.peft.wrap import unwrapped

if TYPE_CHECKING:
    from hfcourse.objectives.speech.settings import APC


class Autoregressive(SpeechObjective):
    """Mean absolute error of the frame `ahead` steps later, over all states that have one.

    The backbone must not hear what comes: GRU layers or a causal Transformer. With a codebook the last states are
    entries of it before they are projected onto frames: what they can say is bounded.
    """

    def __init__(self, settings: APC) -> None:
        self.settings = settings
        self.projection: Any = None
        self.quantizer: GumbelQuantizer | None = None

    def bind(self, model: nn.Module) -> None:
        """Make the projection back onto frames.

        Raises:
            ConfigError: a backbone that hears the future.
        """
        config: Any = unwrapped(model).config
        if getattr(config, "layers", "") not in {"gru", "causal"}:
            raise ConfigError("apc foretells frames that its backbone must not have heard: take gru or causal layers")
        self.projection = nn.Linear(config.hidden_size, config.feature_size)
        if self.settings.codes:
            self.quantizer = GumbelQuantizer(config.hidden_size, groups=1, codes=self.settings.codes)

    def modules_to_train(self) -> list[nn.Module]:
        return [module for module in (self.projection, self.quantizer) if module is not None]

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"frames": int((batch["states"] - self.settings.ahead).clamp(min=0).sum())}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        inner: Any = unwrapped(getattr(model, "module", model))
        frames, counts = inner.features(batch["input_values"], batch.get("attention_mask"))
        states = model(features=frames, counts=counts).last_hidden_state
        ahead = self.settings.ahead
        states = states[:, :-ahead]
        inside = None if counts is None else mask_of(counts - ahead, states.shape[1])
        logs: dict[str, Tensor] = {}
        if self.quantizer is not None:
            states, perplexity = self.quantizer(states, inside)
            number = self.counts(batch)["frames"]
            logs["frames/perplexity"] = perplexity * number if number else perplexity.new_zeros(())
        foretold, there = self.projection(states).float(), frames[:, ahead:]
        if inside is not None:
            foretold, there = foretold[inside], there[inside]
        loss = (foretold - there).abs().mean()
        return Output(losses={"frames": loss}, logs=logs | {"frames/spread": spread(foretold, there)})

    def begin(self, step: int) -> None:
        self.after_step(step)

    def after_step(self, step: int) -> None:
        if self.quantizer is not None:
            self.quantizer.cool(step)

    def collapse(self, logs: Mapping[str, float]) -> str:
        return constant_frames(logs) or few_codes(logs, "frames/perplexity", self.settings.codes)


def constant_frames(logs: Mapping[str, float]) -> str:
    """The collapse in which only the mean frame is drawn."""
    found = logs.get("frames/spread", 1.0)
    return f"constant_frames: what is drawn varies by {found:.4f} of what is there" if found < 1e-3 else ""


def spread(drawn: Tensor, frames: Tensor) -> Tensor:
    """Variance of drawn frames over that of true ones, times their number: near 0 where only the mean is drawn."""
    drawn, frames = drawn.detach().flatten(0, -2), frames.flatten(0, -2)
    if not len(drawn):
        return drawn.sum()
    own, true = (values.var(dim=0, correction=0).mean() for values in (drawn, frames))
    return own / true.clamp(min=1e-6) * len(drawn)
