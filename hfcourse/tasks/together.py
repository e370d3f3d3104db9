"""Several tasks with one backbone and a head each: multi-task learning (MT-DNN, arXiv 1901.11504)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import ConfigError, DataError, unknown
from hfcourse.heads.spec import HeadSpec
from hfcourse.tasks.base import Batch, Examples, Row, Task, TaskContext
from hfcourse.tasks.classification import ClassificationConfig
from hfcourse.tasks.multiple_choice import MultipleChoiceConfig
from hfcourse.tasks.span_qa import SpanQAConfig
from hfcourse.tasks.tagging import TaggingConfig

if TYPE_CHECKING:
    import numpy as np

    from hfcourse.data.batching import Plan
    from hfcourse.objectives.base import Objective

MemberConfig = ClassificationConfig | TaggingConfig | SpanQAConfig | MultipleChoiceConfig
_KINDS: dict[str, type[MemberConfig]] = {
    config.kind: config for config in (ClassificationConfig, TaggingConfig, SpanQAConfig, MultipleChoiceConfig)
}


@dataclass(frozen=True, kw_only=True)
class TogetherConfig:
    """Which tasks, and how often each is seen."""

    kind: ClassVar[str] = "together"
    head_kind: ClassVar[str] = ""
    members: tuple[str, ...] = (
        "topic=classification:pydocs/topic",
        "terms=tagging:pydocs/terms",
        "match=classification:pydocs/match",
        "answer=span_qa:pydocs/answer",
    )
    """``name=kind:data`` for each task: what its head is called, classification, tagging, span_qa or multiple_choice,
    and the data as that kind takes them."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    power: float = 0.75
    """A task's share of an epoch is in proportion to its size to this power: 1 as large as it is, 0 all the same."""

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1:
            raise ConfigError(f"task.power is {self.power}: it must lie in [0, 1]")
        names = list(self.configs)
        if len(names) < 2 or len(names) < len(self.members):
            raise ConfigError(f"task.members are {', '.join(self.members)!r}: name two tasks or more, each once")

    @property
    def configs(self) -> dict[str, MemberConfig]:
        """The members' own settings by name."""
        found: dict[str, MemberConfig] = {}
        for member in self.members:
            name, _, rest = member.partition("=")
            kind, _, data = rest.partition(":")
            if not (name and data):
                raise ConfigError(f"task.members has {member!r}: write name=kind:data")
            if kind not in _KINDS:
                raise ConfigError(f"task.members, {name}: {unknown('kind of task', kind, _KINDS)}")
            found[name] = _KINDS[kind](data=data, data_dir=self.data_dir)
        return found

    def build(self, context: TaskContext, *, new: str | None = None) -> Together:
        """Load and encode every member.

        Raises:
            ConfigError: `new` rows: which task's they are is not known.
        """
        if new is not None:
            raise ConfigError(f"{new}: rows of one task, and this model has several: name a run of that task")
        return Together({name: config.build(context) for name, config in self.configs.items()}, power=self.power)


class Together(Task):
    """Tasks side by side. Each batch is one task's and says so under ``head``; *the* score is the mean of theirs.

    Only train and dev: each member is tested by itself, from the same model.
    """

    metric = "mean"

    def __init__(self, members: Mapping[str, Task], *, power: float) -> None:
        self.members, self.power = dict(members), power
        self.name = " + ".join(self.members)
        for name, task in self.members.items():
            if not len(task.splits.get("train", ())):
                raise DataError(f"{name}: the training split is missing or empty: leave the task out")
        heads: list[HeadSpec] = []
        for name, task in self.members.items():
            assert isinstance(task.head, HeadSpec)
            heads.append(replace(task.head, name=name))
        self.head = tuple(heads)
        self.splits = {split: Joined(parts) for split in ("train", "dev") if (parts := self._parts(split))}

    @property
    def objective(self) -> Objective:
        from hfcourse.objectives.together import Together as InTurn

        return InTurn({name: task.objective for name, task in self.members.items()})

    def plan(self, split: str, **how: Any) -> Plan:
        """No batch holds rows of two tasks; in training they are drawn by size to a power."""
        from hfcourse.data.mixing import mixed_plan

        parts = self._parts(split)
        mixes = [self.members[name].mixes_lengths for name in parts]
        return mixed_plan([part.lengths for part in parts.values()], power=self.power, mixes_lengths=mixes, **how)

    def must_mix(self, rows: np.ndarray) -> bool:
        """As the rows' own task has it."""
        (owner,) = {row["task"] for row in self.splits["train"].take(rows[:1])}
        return self.members[owner].mixes_lengths

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        """As the rows' own task does it, and ``head``, its name."""
        (name,) = {row["task"] for row in rows}
        batch: dict[str, Any] = dict(self.members[name].collate([row["inner"] for row in rows], epoch=epoch))
        return batch | {"head": name}

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        return self.members[str(batch["head"])].predict(logits, batch)

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        """Each task's own answers, one task after another, with its name under ``task`` and before the ``id``."""
        found, start = [], 0
        for name, part in self._parts(split).items():
            own = self.members[name].answers(split, predictions[start : start + len(part)])
            found += [{**answer, "id": f"{name}/{answer['id']}", "task": name} for answer in own]
            start += len(part)
        return found

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        """The mean of the members' own scores, and each member's under ``name/score``."""
        by_task: dict[str, list[dict[str, Any]]] = {}
        for answer in answers:
            by_task.setdefault(answer["task"], []).append(answer)
        scores = {name: self.members[name].score(own) for name, own in by_task.items()}
        main = [scores[name][self.members[name].metric] for name in scores]
        each = {f"{name}/{score}": value for name, own in scores.items() for score, value in own.items()}
        return {"mean": sum(main) / len(main), **each}

    def _parts(self, split: str) -> dict[str, Examples]:
        return {name: task.splits[split] for name, task in self.members.items() if split in task.splits}


class Joined:
    """The rows of several tasks, one task after another, under one numbering."""

    def __init__(self, parts: Mapping[str, Examples]) -> None:
        import numpy as np

        self.parts = dict(parts)
        self.starts = np.cumsum([0, *map(len, self.parts.values())])
        self.lengths = np.concatenate([part.lengths for part in self.parts.values()])

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        """Rows as ``{"row", "id", "task", "inner"}``; the inner one is as its task takes it."""
        import numpy as np

        numbers = np.asarray(rows)
        owners = np.searchsorted(self.starts, numbers, side="right") - 1
        taken: dict[int, Row] = {}
        for owner, (name, part) in enumerate(self.parts.items()):
            at = np.flatnonzero(owners == owner)
            for place, row in zip(
                at.tolist(), part.take(numbers[at] - self.starts[owner]) if len(at) else (), strict=True
            ):
                id_ = f"{name}/{row.get('id', row['row'])}"
                taken[place] = {"row": int(numbers[place]), "id": id_, "task": name, "inner": row}
        return [taken[place] for place in range(len(numbers))]
