"""The contract between a task and everything else: the engine, `predict` and the reports know no more than this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hfcourse.heads.spec import HeadSpec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerBase

    from hfcourse.data.batching import Plan
    from hfcourse.objectives.base import Objective

Row = dict[str, Any]
Batch = dict[str, "torch.Tensor"]


class Examples(Protocol):
    """Encoded examples of one split, in a fixed order. Row numbers (0 .. len-1) identify them everywhere."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens (of sound: frames of 10 ms) of each row, int64 of shape (rows,): what batches are bucketed by."""

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        """The rows asked for, in that order. Every row carries its number under ``row``."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a task needs to know beyond its own settings when it is built."""

    seed: int = 0
    """Decides every draw of the task (a dev split cut off, masks, negatives)."""
    limit: int = 0
    """Use only so many examples of each split; 0 for all."""
    dev_limit: int = 0
    """Use only so many examples of the dev split; 0 for `limit`."""
    strict: bool = False
    """Refuse what is otherwise cut, dropped or counted."""
    model_labels: tuple[str, ...] = ()
    """Class names of an already fine-tuned checkpoint, in its own order; empty if it has none."""
    revision: str = "main"
    """Revision of a Hub dataset."""
    cache_dir: str | None = None
    """Where the Hub's and the builders' files are cached; None for the library's own place."""
    notes: list[str] = field(default_factory=list)
    """Lines for the log: what was cut, dropped or counted. Tasks append, the recipe prints."""

    def limit_of(self, split: str) -> int:
        """Most examples of a split; 0 for all."""
        return (self.dev_limit if split == "dev" else 0) or self.limit


@dataclass(frozen=True, kw_only=True)
class TaskContext(Context):
    """The same for tasks on text."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int = 512
    """Longest input in tokens; longer ones are cut (and counted in the log) or refused under `strict`."""


@dataclass(frozen=True, kw_only=True)
class SpeechContext(Context):
    """The same for tasks on sound."""

    extractor: Any
    """The backbone's feature extractor: the rate of the sound, and how the backbone's input is made."""
    backbone: Any
    """The backbone's config: it tells how many states so many samples have."""
    folder: Path | None = None
    """The run's folder: what is made of all recordings before training (units) is kept there."""

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.extractor.sampling_rate)


class Task(ABC):
    """Data + metric + which head and objective."""

    name: str
    """As the reports show it, for example ``pydocs/topic``."""
    head: HeadSpec | tuple[HeadSpec, ...]
    """The head(s) that the model needs."""
    metric: str
    """The key in `score`'s answer that is *the* score: it selects checkpoints and stops early."""
    maximize: bool = True
    """Whether a larger score is better."""
    augments: bool = False
    """Whether `collate` draws, so that a row has other inputs in each epoch."""
    mixes_lengths: bool = False
    """Whether a step must hold rows of all lengths."""
    hears: bool = False
    """Whether its examples are sound: lengths are frames of 10 ms, and logs tell seconds of audio."""
    splits: Mapping[str, Examples]
    """Encoded ``train``, ``dev`` and ``test`` where they exist; `fit` trains on the first and selects on the second."""

    @property
    def objective(self) -> Objective:
        """How a model and a batch become a loss; the default is the model's own supervised loss."""
        from hfcourse.objectives.base import Supervised

        return Supervised()

    def plan(self, split: str, **how: Any) -> Plan:
        """Which rows of a split form which batches; `how` as `hfcourse.data.batching.plan` takes it.

        A pure function of the split, of seed and epoch: resuming asks for it again.
        """
        from hfcourse.data.batching import plan

        return plan(self.lengths(split, epoch=how.get("epoch", -1)), **how)

    def must_mix(self, rows: np.ndarray) -> bool:
        """Whether the step of these training rows holds rows of all lengths."""
        return self.mixes_lengths

    def lengths(self, split: str, *, epoch: int = -1) -> np.ndarray:
        """How long each row of a split is in an epoch of training (-1: in evaluation), int64 (rows,)."""
        return self.splits[split].lengths

    def expect(self, rows: np.ndarray, *, epoch: int) -> None:  # noqa: B027 - text is at hand
        """Begin with what takes time of training rows that are collated next (sound is decoded)."""

    @abstractmethod
    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        """Rows -> padded tensors, named as the model's forward takes them (``input_ids`` (batch, time), ...).

        ``attention_mask`` is left out when nothing is padded. Whatever is drawn here is keyed by the task's
        seed, `epoch` and the row's number, never by the position in the batch; evaluation passes epoch -1.
        """

    @abstractmethod
    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """Logits of one batch -> one plain prediction (numpy or Python) for each row of the batch."""

    @abstractmethod
    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        """Predictions in row order -> one JSON-able dict an *example* (windows of one document merged).

        Keys: ``id``, ``prediction``, ``reference`` (None if unlabelled) and what a reader needs to see
        (``text``, ``question`` ...); for classification also ``confidence``.
        """

    @abstractmethod
    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        """Answers with references -> scores by name; holds `metric`. Called on resamples too, so it is cheap."""
