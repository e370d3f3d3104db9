"""A task of in-context evaluation as data: where its rows are, how one is asked, and how an answer is judged.

The meaning of every field is that of EleutherAI's lm-evaluation-harness, whose files `lm_eval` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hfcourse.errors import ConfigError, DataError, unknown
from hfcourse.prompting import rendering
from hfcourse.prompting.judging import METRICS, Filter, MetricUse, by_number
from hfcourse.prompting.rendering import Field, Row
from hfcourse.prompting.requests import Generation

Output = Literal["multiple_choice", "generate_until", "loglikelihood"]
Answer = str | int | list[Any]
"""A target: text, the place of a choice, or a list of either where several are right."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which table, and which splits of it."""

    data: str
    """As `hfcourse.data.loading.load` takes it; for a Hub dataset with a config, its id."""
    config: str = ""
    """A Hub dataset's config."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `datasets.load_dataset`, such as ``data_files``."""
    folder: str = ""
    """Where relative ``data_files`` are looked for, too."""
    split: str = "test"
    """The questions."""
    shots: str = "train"
    """The examples; a split, or ``data:split`` of another table."""
    process: Callable[[Any], Any] | None = None
    """A table -> the table that is used."""
    shots_process: Callable[[Any], Any] | None = None
    """The same for the examples."""
    by_library: bool = False
    """Let `datasets.load_dataset` read the table with `options`; `data` names its reader or a Hub dataset."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """One score of a group: the mean of a score of its tasks."""

    metric: str
    filters: tuple[str, ...] = ()
    """Which of several judgements of an answer; empty: each by itself."""
    by_size: bool = True
    """A task counts by its rows, instead of as much as another."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group that says itself how its scores are computed."""

    name: str
    means: tuple[Mean, ...]


@dataclass(frozen=True, kw_only=True)
class Template:
    """One task."""

    name: str
    source: Source
    text: Field
    """The question; with choices a number says which choice is the right beginning, and the target follows it."""
    target: Field
    """The answer: text, the number of a choice, or a list where several are right."""
    choices: Field | None = None
    """Answers to choose from; None for multiple choice: the class names of the target's column."""
    description: Field = ""
    """What stands before all examples."""
    target_delimiter: str = " "
    """Between a question and its answer."""
    fewshot_delimiter: str = "\n\n"
    """Behind an example."""
    output: Output = "generate_until"
    """Compare choices, generate an answer, or ask how likely the target is."""
    generation: Generation = field(default_factory=lambda: Generation(max_new_tokens=256, stop=("\n\n",)))
    """How answers are generated."""
    filters: Mapping[str, tuple[Filter, ...]] = field(default_factory=lambda: {"none": ()})
    """What is done to a generated answer before it is judged; under several names, it is judged several times."""
    metrics: tuple[MetricUse, ...] = ()
    """How answers are judged; the first one is the task's score."""
    example: Mapping[str, Any] = field(default_factory=dict)
    """Fields of this class that examples have otherwise than the question."""
    samples: tuple[Row, ...] = ()
    """Examples written by hand, instead of a split."""
    select: Literal["random", "first", ""] = ""
    """How the file wants its examples chosen; empty: as the user says."""
    shots: int | None = None
    """How many examples the file asks for."""
    groups: tuple[str | Group, ...] = ()
    """Groups that it counts in; of a mere name each task with an accuracy counts as much as another."""

    def __post_init__(self) -> None:
        known = {name for name, metric in METRICS.items() if self.output in metric.outputs}
        for use in self.metrics:
            if use.name not in known:
                raise ConfigError(f"task {self.name}: {unknown(f'metric of {self.output}', use.name, known)}")
        for name in ("text", "target", "choices", "description"):
            rendering.check(getattr(self, name), f"task {self.name}, {name}")
        for name, source in self.example.items():
            rendering.check(source, f"task {self.name}, {name} of its examples")

    @property
    def as_example(self) -> Template:
        """The template by which examples are written."""
        return replace(self, example={}, **self.example) if self.example else self

    def ask(self, row: Row) -> str | int:
        """The question of a row."""
        found = rendering.value(self.text, row, self._where("text"), numbers=self.choices is not None)
        return found if isinstance(found, int) else str(found)

    def answers(self, row: Row) -> list[str]:
        """The choices of a row; none where the task has none."""
        return [] if self.choices is None else rendering.choices(self.choices, row, self._where("choices"))

    def gold(self, row: Row) -> Answer:
        """The target of a row."""
        where = self._where("target")
        found = rendering.value(self.target, row, where, numbers=self.choices is not None, lists=True)
        if isinstance(found, tuple | list):
            return list(found)
        if self._is_place(found) and str(found) not in self.answers(row):
            return int(found)
        return found if isinstance(found, str | int) else str(found)

    def _is_place(self, found: Any) -> bool:
        """Whether a label such as 1.0 names a choice: so tables read whole numbers where a row has none."""
        chooses = self.choices is not None and not by_number(self.metrics)
        return chooses and isinstance(found, float) and found.is_integer()

    def answer_text(self, row: Row) -> str:
        """The (first) right answer in words: what stands behind an example."""
        gold, choices = self.gold(row), self.answers(row)
        gold = gold[0] if isinstance(gold, list) and gold else gold
        if isinstance(gold, int) and choices:
            if not 0 <= gold < len(choices):
                raise DataError(f"{self._where('target')}: choice {gold} of an example is none of its {len(choices)}")
            return choices[gold]
        return str(gold) if gold != [] else ""

    def describe(self, row: Row) -> str:
        """What stands before all examples."""
        return str(rendering.value(self.description, row, self._where("description"))) if self.description else ""

    def _where(self, name: str) -> str:
        return f"task {self.name}, {name}"
