"""What every objective on sound has in common: draws that depend on the example alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.data.noise import uniform
from hfcourse.errors import ConfigError
from hfcourse.heads.spec import HeadSpec
from hfcourse.objectives.base import Batch, Objective

if TYPE_CHECKING:
    from hfcourse.data.clips import Clips
    from hfcourse.tasks.base import SpeechContext


@dataclass(frozen=True)
class Draws:
    """Uniform numbers that depend on seed, epoch and row, never on the batch."""

    seed: int
    epoch: int
    rows: np.ndarray
    """Numbers of the rows, (B,)."""
    source: Clips | None = None
    """The recordings that the rows are numbers of."""
    begins: np.ndarray | None = None
    """The first sample that is heard of each, (B,)."""
    speeds: np.ndarray | float = 1.0
    """How fast each is played, (B,)."""

    def __call__(self, stream: int, width: int) -> np.ndarray:
        """Numbers in [0, 1), float64 (B, width); each stream is independent of the others."""
        return uniform(self.seed, self.epoch, self.rows, width, stream)


class SpeechObjective(Objective):
    """Base of the objectives on sound.

    The batch holds what the backbone takes, ``sample_counts`` and ``states`` (B,), how many samples and states of each
    row are no padding, and what `draw` gave.
    """

    head: HeadSpec = HeadSpec(kind="none")
    """What `model.build` puts on the backbone: nothing, or transformers' own pretraining head."""

    def draw(self, states: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        """What is drawn for a batch: masks, negatives, ...

        Args:
            states: how many states each row has, int64 (B,); the batch is as wide as the largest.
            draws: the numbers to draw with.

        Returns:
            Arrays whose first axis is the batch's, by the names under which the objective finds them.
        """
        return {}

    def prepare(self, splits: Mapping[str, Clips], context: SpeechContext) -> None:
        """Called once when the recordings are known: what is made of them all before training is made here."""

    def alter(self, waveforms: list[np.ndarray], draws: Draws) -> list[np.ndarray]:
        """What the model hears instead of the waveforms: mixed with others of ``draws.source``, or with noise.

        Only asked where `alters` is true.
        """
        return waveforms

    alters: bool = False
    """Whether the model hears something else than what was recorded."""


def states_of(model: Any, batch: Batch, **more: Any) -> Any:
    """The backbone's output on a batch's sound."""
    names = ("input_values", "input_features", "attention_mask")
    return model(**{name: batch[name] for name in names if name in batch}, **more)


def keep_samples_constant(model: Any) -> None:
    """Spare a net on samples the gradient of its samples: transformers' convolutions have it made, and nobody reads it.

    It was a ninth of their time on CPU.

    Raises:
        ConfigError: a net that hears otherwise.
    """
    if not hasattr(model, "feature_extractor"):
        raise ConfigError(
            f"a {model.config.model_type} net has no convolutions on samples, so that no method here pretrains it: "
            "name another, or train it on a task (speech/finetune)"
        )
    model.feature_extractor._requires_grad = False


def few_codes(logs: Mapping[str, float], name: str, codes: int) -> str:
    """The collapse in which all states share a handful of a codebook's entries.

    Args:
        logs: means of a window.
        name: under which the perplexity of the entries in use stands there.
        codes: entries of the codebook, of all groups together.
    """
    perplexity = logs.get(name, float(codes))
    return f"few_codes: the perplexity of {codes} codes is {perplexity:.2f}" if perplexity < min(2.0, codes / 4) else ""
