"""Self-supervised learning from sound: recordings without labels, and one of the objectives that the course names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.objectives.speech.settings import APC, Method
from hfcourse.tasks.base import Batch, Row, SpeechContext, Task

if TYPE_CHECKING:
    import numpy as np

    from hfcourse.data.clips import Clips
    from hfcourse.objectives.base import Objective
    from hfcourse.objectives.speech.base import Draws

_CROPS = 0
"""Stream of draws; the objective's own begin at 1."""
_DEV_LIMIT = 200
"""Recordings of a dev or test split that are answered: far more than enough for a stable loss."""


@dataclass(frozen=True, kw_only=True)
class SpeechPretrainingConfig:
    """Which recordings, and what is learned from them."""

    kind: ClassVar[str] = "speech_pretraining"
    data: str = "spoken/unlabelled"
    """A builder (spoken/unlabelled, librispeech/all, audio_folder), or a Hub id; labels are passed over."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    longest: float = 8.0
    """Seconds; of longer recordings another part is heard in each epoch."""
    method: Method = field(default_factory=APC)
    """What is learned; ``--task.method hubert`` for HuBERT's."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Speeds and telephones of training recordings; masks are the method's own. Units stay those of the whole band."""

    def __post_init__(self) -> None:
        if self.augment.masks:
            raise ConfigError(
                f"task.augment masks and task.method is {self.method.kind}, which has masks of its own or none: "
                "leave out augment.time_masks and augment.channel_masks"
            )
        if self.longest <= 0:
            raise ConfigError(f"task.longest is {self.longest}: it must be above 0 seconds")

    def build(self, context: SpeechContext) -> SpeechPretraining:
        """Find the recordings and look at each once."""
        return SpeechPretraining(self, context)


class SpeechPretraining(Task):
    """Recordings whose labels come from themselves."""

    maximize = False
    augments = True
    hears = True
    metric = "loss"

    def __init__(self, config: SpeechPretrainingConfig, context: SpeechContext) -> None:
        from hfcourse.tasks import tables
        from hfcourse.tasks.sound import clips_of

        self.config, self.context, self.name = config, context, config.data
        self._objective = config.method.build()
        self.head = self._objective.head
        raw = tables.with_dev(tables.load_tables(config.data, config.data_dir, context, None), context, share=0.05)
        if "train" not in raw:
            raise DataError(f"{config.data}: no training split: there is nothing to learn from")
        found = {}
        for split, table in tables.limited(raw, context).items():
            if split != "train" and not context.limit_of(split):
                table = table.select(range(min(_DEV_LIMIT, len(table))))
            speeds = config.augment.speeds if split == "train" else ()
            where = f"{config.data}, {split}"
            found[split] = clips_of(table, where, context, longest=config.longest, speeds=speeds)
        self.splits: dict[str, Clips] = found
        self._objective.prepare(found, context)

    @property
    def objective(self) -> Objective:
        return self._objective

    def lengths(self, split: str, *, epoch: int = -1) -> np.ndarray:
        from hfcourse.tasks.sound import heard_lengths

        return heard_lengths(self.splits[split], self.config.augment, self.context.seed, epoch)

    def expect(self, rows: np.ndarray, *, epoch: int) -> None:
        source = self.splits["train"]
        source.expect(rows, self._crops(source, rows, epoch)[1])

    def _crops(self, source: Clips, rows: np.ndarray, epoch: int) -> tuple[Draws, np.ndarray]:
        """What is drawn for rows of a split, and which part of each is heard, (B, 2)."""
        from hfcourse.data.augment import speeds
        from hfcourse.objectives.speech.base import Draws
        from hfcourse.tasks.sound import crops

        draws = Draws(self.context.seed, epoch, rows, source)
        positions = draws(_CROPS, 1)[:, 0] if epoch >= 0 else None
        played = speeds(self.config.augment, self.context.seed, epoch, rows)
        parts = crops(source, rows, speeds=played, positions=positions)
        return replace(draws, begins=parts[:, 0], speeds=played), parts

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import numpy as np
        import torch

        from hfcourse.data.augment import over_telephones
        from hfcourse.tasks.sound import heard, inputs_of, states_in

        source = rows[0]["source"]
        draws, parts = self._crops(source, np.array([row["row"] for row in rows]), epoch)
        waveforms = heard(source, draws.rows, parts, np.asarray(draws.speeds))
        if self._objective.alters:
            waveforms = self._objective.alter(waveforms, draws)
        waveforms = over_telephones(
            self.config.augment, waveforms, source.rate, seed=self.context.seed, epoch=epoch, rows=draws.rows
        )
        batch = inputs_of(waveforms, self.context)
        states = states_in(batch, self.context)
        drawn = {"states": states, **self._objective.draw(states, draws)}
        return batch | {name: torch.from_numpy(values) for name, values in drawn.items()}

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """Nothing is answered: losses and what shows health are the scores."""
        return [None] * len(batch["sample_counts"])

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        return []

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        return {}
