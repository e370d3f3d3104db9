"""Recordings -> a class (commands, speakers, digits, emotions), or a class for every state (timed phones)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.heads.spec import HeadSpec, Pooling
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, SpeechContext, Task

if TYPE_CHECKING:
    import numpy as np

    from hfcourse.data.clips import Clips

_LABELS = ("label", "digit", "speaker", "class", "emotion")
_SILENCE = "-"
"""The class of states during which no phone is spoken."""
_IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class SpeechClassificationConfig:
    """Which recordings, which column, what the head reads."""

    kind: ClassVar[str] = "speech_classification"
    head_kind: ClassVar[str] = "sequence"
    data: str = "spoken/commands"
    """A builder (spoken/commands, fsdd/digits, speech_commands), or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    label: str = ""
    """Column of the class; found by the usual names where not given."""
    longest: float = 8.0
    """Seconds; the beginning of longer recordings is heard. 0 for no bound."""
    layers: Literal["last", "mix"] = "mix"
    """What the head reads: the last layer, or a learned weighted sum of all (SUPERB's protocol, arXiv 2105.01051)."""
    pooling: Pooling = "mean"
    """How states become one vector."""
    standardize: bool = True
    """Give each number that the head reads mean 0 and variance 1 over training rows: a linear head above a frozen net
    hardly learns without (MAE has BatchNorm there, arXiv 2111.06377). `whole` does without."""
    dev_share: float = 0.1
    """Share of the training rows cut off as dev split where none is given."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What training recordings go through; a frozen backbone then hears them in every epoch, not once."""

    def __post_init__(self) -> None:
        if self.longest < 0:
            raise ConfigError(f"task.longest is {self.longest}: it must be 0 seconds or more")

    def build(self, context: SpeechContext) -> SpeechTask:
        """Find the recordings and look at each once."""
        return SpeechClassification(self, context)


@dataclass(frozen=True, kw_only=True)
class SpeechFramesConfig(SpeechClassificationConfig):
    """Rows with ``phones`` and their ``starts`` and ``ends`` in seconds: a class for every state."""

    kind: ClassVar[str] = "speech_frames"
    head_kind: ClassVar[str] = "frame"
    data: str = "spoken/phones"
    """A builder whose rows have timed phones, or a Hub id."""

    def build(self, context: SpeechContext) -> SpeechTask:
        """Find the recordings and look at each once."""
        return SpeechFrames(self, context)


class SpeechTask(Task):
    """Labelled recordings: `read` gives each row's target, `labels_of` a batch's."""

    hears = True
    metric = "accuracy"

    def __init__(self, config: SpeechClassificationConfig, context: SpeechContext) -> None:
        from hfcourse.backbones.speech.spec_augment import maskable_channels
        from hfcourse.tasks.sound import clips_of

        self.config, self.context, self.name = config, context, config.data
        self.augments = config.augment.alters
        if config.augment.masks:
            maskable_channels(context.backbone)
        raw = tables.load_tables(config.data, config.data_dir, context, None)
        self.labels = tables.Labels(self.find_labels(raw))
        raw = {split: tables.with_targets(table, self.read(split, table)) for split, table in raw.items()}
        by = self.label if config.head_kind == "sequence" else None
        raw = tables.limited(tables.with_dev(raw, context, share=config.dev_share, by=by), context)
        speeds = {"train": config.augment.speeds}
        self.splits: dict[str, Clips] = {
            split: clips_of(
                table, f"{config.data}, {split}", context, longest=config.longest, speeds=speeds.get(split, ())
            )
            for split, table in raw.items()
        }
        self.head = HeadSpec(
            kind="frame" if config.head_kind == "frame" else "sequence",
            labels=self.labels.names,
            pooling="native" if config.head_kind == "frame" else config.pooling,
            layers=config.layers,
            standardize=config.standardize,
        )

    label: str = ""
    """Column of the class."""

    @abstractmethod
    def find_labels(self, raw: tables.Tables) -> tuple[str, ...]:
        """Names of all classes."""

    @abstractmethod
    def read(self, split: str, table: Any) -> list[Any]:
        """Each row's target; None where it is not known."""

    @abstractmethod
    def labels_of(self, rows: list[Row], states: np.ndarray, speeds: np.ndarray) -> np.ndarray | None:
        """A batch's labels, given states and speed of each row; None where a row has none."""

    def lengths(self, split: str, *, epoch: int = -1) -> np.ndarray:
        from hfcourse.tasks.sound import heard_lengths

        return heard_lengths(self.splits[split], self.config.augment, self.context.seed, epoch)

    def expect(self, rows: np.ndarray, *, epoch: int) -> None:
        from hfcourse.data.augment import speeds
        from hfcourse.tasks.sound import crops

        source, played = self.splits["train"], speeds(self.config.augment, self.context.seed, epoch, rows)
        source.expect(rows, crops(source, rows, speeds=played))

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import numpy as np

        from hfcourse.data.augment import over_telephones, speeds
        from hfcourse.tasks.sound import crops, heard, inputs_of, masks_of, states_in

        source, settings = rows[0]["source"], self.config.augment
        numbers = np.array([row["row"] for row in rows])
        played = speeds(settings, self.context.seed, epoch, numbers)
        waves = heard(source, numbers, crops(source, numbers, speeds=played), played)
        waves = over_telephones(settings, waves, source.rate, seed=self.context.seed, epoch=epoch, rows=numbers)
        batch = inputs_of(waves, self.context)
        states = states_in(batch, self.context)
        masks = masks_of(settings, self.context, numbers, states, epoch=epoch)
        return batch | masks | self._labels(rows, states, played)

    def without_sound(self, rows: list[Row], *, epoch: int) -> Batch:
        """A batch without the backbone's input: ``labels`` and ``sample_counts`` (B,)."""
        import numpy as np
        import torch

        from hfcourse.tasks.sound import states_in

        counts = torch.from_numpy(rows[0]["source"].samples[[row["row"] for row in rows]])
        batch: Batch = {"sample_counts": counts}
        return batch | self._labels(rows, states_in(batch, self.context), np.ones(len(rows)))

    def _labels(self, rows: list[Row], states: np.ndarray, speeds: np.ndarray) -> Batch:
        import torch

        labels = self.labels_of(rows, states, speeds)
        return {} if labels is None else {"labels": torch.from_numpy(labels)}

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        from hfcourse.metrics import classification as metrics

        predictions, references = ([answer[key] for answer in answers] for key in ("prediction", "reference"))
        return {"accuracy": metrics.accuracy(predictions, references), "macro_f1": metrics.f1(predictions, references)}


class SpeechClassification(SpeechTask):
    """One class a recording. The lecture's speech downstream tasks: keywords, speakers, emotions, intents."""

    def find_labels(self, raw: tables.Tables) -> tuple[str, ...]:
        from hfcourse.data.loading import labels_of

        first = raw.get("train", next(iter(raw.values())))
        self.label = tables.named_column(first, self.config.label, _LABELS, self.name, "label")
        names = labels_of(first, self.label) or list(tables.find_labels(first[self.label]))
        if len(names) < 2:
            raise DataError(f"{self.name}: column {self.label!r} has fewer than two classes: nothing to learn")
        return tuple(names)

    def read(self, split: str, table: Any) -> list[Any]:
        from hfcourse.data.loading import labels_of

        declared = labels_of(table, self.label)
        targets: list[Any] = []
        for number, cell in enumerate(table[self.label], start=1):
            hidden = cell is None or (declared and cell < 0)
            word = declared[cell] if declared and not hidden else cell
            targets.append(None if hidden else self.labels.number(word, f"{self.name}, {split}, row {number}"))
        tables.refuse_unlabelled(targets, self.name, split)
        return targets

    def labels_of(self, rows: list[Row], states: np.ndarray, speeds: np.ndarray) -> np.ndarray | None:
        import numpy as np

        targets = [row[tables.TARGET] for row in rows]
        return None if None in targets else np.array(targets, dtype=np.int64)

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        confidence, best = logits.float().softmax(dim=-1).max(dim=-1)
        return list(zip(best.tolist(), confidence.tolist(), strict=True))

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        names, rows = self.labels.names, self.splits[split].take(range(len(self.splits[split])))
        return [
            {
                "id": row.get("id", row["row"]),
                "prediction": names[best],
                "confidence": confidence,
                "reference": None if row[tables.TARGET] is None else names[row[tables.TARGET]],
            }
            for row, (best, confidence) in zip(rows, predictions, strict=True)
        ]


class SpeechFrames(SpeechTask):
    """A class a state: the phone that is spoken in the middle of the window that the state hears."""

    def find_labels(self, raw: tables.Tables) -> tuple[str, ...]:
        from hfcourse.data.loading import column, labels_of

        first = raw.get("train", next(iter(raw.values())))
        for name in ("phones", "starts", "ends"):
            column(first, name, self.name)
        declared = labels_of(first, "phones")
        spoken = declared or sorted({phone for cell in first["phones"] for phone in cell} - {_SILENCE})
        return (_SILENCE, *spoken)

    def read(self, split: str, table: Any) -> list[Any]:
        """(numbers, starts, ends) of each row's phones, as one list of triples."""
        from hfcourse.data.loading import labels_of

        declared = labels_of(table, "phones")
        targets = []
        columns = zip(table["phones"], table["starts"], table["ends"], strict=True)
        for number, (phones, starts, ends) in enumerate(columns, start=1):
            where = f"{self.name}, {split}, row {number}"
            if not len(phones) == len(starts) == len(ends):
                raise DataError(f"{where}: {len(phones)} phones, {len(starts)} starts and {len(ends)} ends")
            if list(starts) != sorted(starts):
                raise DataError(f"{where}: its phones are not in the order in which they start: sort them")
            words = [declared[phone] if declared else phone for phone in phones]
            targets.append(
                [[float(self.labels.number(w, where)), s, e] for w, s, e in zip(words, starts, ends, strict=True)]
            )
        return targets

    def labels_of(self, rows: list[Row], states: np.ndarray, speeds: np.ndarray) -> np.ndarray | None:
        import numpy as np

        labels = np.full((len(rows), int(states.max())), _IGNORED, dtype=np.int64)
        for at, (row, count, speed) in enumerate(zip(rows, states, speeds, strict=True)):
            labels[at, :count] = self._classes(row, int(count), float(speed))
        return labels

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """The class of each of a row's states."""
        from hfcourse.tasks.sound import states_in

        counts = states_in({"sample_counts": batch["sample_counts"].cpu()}, self.context)
        best = logits.argmax(dim=-1).cpu().numpy()
        return [row[:count].tolist() for row, count in zip(best, counts, strict=True)]

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        names, rows = self.labels.names, self.splits[split].take(range(len(self.splits[split])))
        found = []
        for row, classes in zip(rows, predictions, strict=True):
            true = self._classes(row, len(classes))
            spoken = {"prediction": [names[c] for c in classes], "reference": [names[c] for c in true]}
            found.append({"id": row.get("id", row["row"]), **spoken})
        return found

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        """Over all states of all recordings together."""
        flat = {key: [one for answer in answers for one in answer[key]] for key in ("prediction", "reference")}
        return super().score([{"prediction": p, "reference": r} for p, r in zip(*flat.values(), strict=True)])

    def _classes(self, row: Row, states: int, speed: float = 1.0) -> np.ndarray:
        """The class of each state of a row, int64 (states,), where it is played at `speed`."""
        import numpy as np

        from hfcourse.backbones.speech.rate import shortest, stride

        config = self.context.backbone
        # Of the windows, in seconds of the recording: what came at t comes at t / speed.
        middles = (np.arange(states) * stride(config) + shortest(config) / 2) / self.context.rate * speed
        numbers, starts, ends = np.array(row[tables.TARGET]).reshape(-1, 3).T
        at = np.searchsorted(starts, middles, side="right") - 1
        spoken = (at >= 0) & (middles < ends[np.maximum(at, 0)]) if len(starts) else np.zeros(states, dtype=bool)
        classes: np.ndarray = np.where(spoken, numbers[np.maximum(at, 0)] if len(starts) else 0, 0).astype(np.int64)
        return classes
