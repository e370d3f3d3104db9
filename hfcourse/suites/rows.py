"""The suites as data: a row a task. A new task of a known kind is one more row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfcourse.errors import ConfigError, DataError, unknown


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task: what is learned, what is scored, what is known about it."""

    name: str
    data: str
    """As ``--task.data`` takes it."""
    variant: str = "classification"
    """Variant of bert/finetune that learns it."""
    scores: tuple[str, ...] = ("accuracy",)
    """Their mean, over all of `splits`, is the task's score."""
    splits: tuple[str, ...] = ("dev",)
    """Where the scores are taken."""
    human: tuple[float, ...] = ()
    """Published human scores in per cent, for each split all scores."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Official numbers of rows by split."""
    answered_by: str = ""
    """The row whose model answers this one; it is not learned and not in the average."""
    submit: Mapping[str, str] = field(default_factory=dict)
    """Split -> file of the benchmark's submission."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Our labels as the submission writes them, where they differ."""

    @property
    def measures(self) -> tuple[tuple[str, str], ...]:
        """(split, score) in the order of `human`."""
        return tuple((split, score) for split in self.splits for score in self.scores)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Rows under one name."""

    name: str
    rows: tuple[Row, ...]


def _glue(
    name: str, file: str, sizes: tuple[int, int, int], human: tuple[float, ...], *labels: str, **more: Any
) -> Row:
    """A row of GLUE: official sizes of train, dev and test; labels that the submission numbers."""
    given: dict[str, Any] = {
        "counts": dict(zip(("train", "dev", "test"), sizes, strict=True)),
        "submit": {"test": f"{file}.tsv"},
        "words": {label: str(number) for number, label in enumerate(labels)},
        "human": human,
    }
    return Row(name=name, data=f"glue/{name}", **(given | more))


_F1 = ("f1", "accuracy")
# GLUE (arXiv 1804.07461); human scores of Nangia and Bowman (arXiv 1905.10425) as the leaderboard shows them.
GLUE = Suite(
    name="glue",
    rows=(
        _glue("cola", "CoLA", (8551, 1043, 1063), (66.4,), "unacceptable", "acceptable", scores=("matthews",)),
        _glue("sst2", "SST-2", (67_349, 872, 1821), (97.8,), "negative", "positive"),
        _glue("mrpc", "MRPC", (3668, 408, 1725), (86.3, 80.8), "not_equivalent", "equivalent", scores=_F1),
        _glue("stsb", "STS-B", (5749, 1500, 1379), (92.7, 92.6), scores=("pearson", "spearman")),
        _glue("qqp", "QQP", (363_846, 40_430, 390_965), (59.5, 80.4), "not_duplicate", "duplicate", scores=_F1),
        _glue(
            "mnli",
            "MNLI-m",
            (392_702, 9815, 9796),
            (92.0, 92.8),
            splits=("dev", "dev_mismatched"),
            counts={"train": 392_702, "dev": 9815, "test": 9796, "dev_mismatched": 9832, "test_mismatched": 9847},
            submit={"test": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv"},
        ),
        _glue("qnli", "QNLI", (104_743, 5463, 5463), (91.2,)),
        _glue("rte", "RTE", (2490, 277, 3000), (93.6,)),
        _glue("wnli", "WNLI", (635, 71, 146), (95.9,), "not_entailment", "entailment"),
        Row(
            name="ax",
            data="glue/ax",
            scores=("matthews",),
            splits=("test",),
            counts={"test": 1104},
            answered_by="mnli",
            submit={"test": "AX.tsv"},
        ),
    ),
)

PYDOCS = Suite(
    name="pydocs",
    rows=(
        Row(name="topic", data="pydocs/topic", splits=("test",)),
        Row(name="terms", data="pydocs/terms", variant="tagging", scores=("f1",), splits=("test",)),
        Row(name="match", data="pydocs/match", splits=("test",)),
        Row(name="answer", data="pydocs/answer", variant="qa", scores=("f1",), splits=("test",)),
    ),
)

SUITES = {suite.name: suite for suite in (GLUE, PYDOCS)}


def choose(suite: Suite, names: Sequence[str], data_dir: str | None) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows asked for that have data, and the names of those that have none.

    Args:
        suite: all rows.
        names: of the rows wanted; all where empty.
        data_dir: the raw files, for suites that read some.

    Raises:
        ConfigError: an unknown task, with the nearest one.
        DataError: no data for a task that was named, or for any.
    """
    known = {row.name: row for row in suite.rows}
    for name in names:
        if name not in known:
            raise ConfigError(unknown(f"task of {suite.name}", name, known))
    wanted = [row for row in suite.rows if row.name in names or not names]
    missing = {row.name: reason for row in wanted if (reason := _why_missing(row, data_dir))}
    named = next((missing[name] for name in names if name in missing), None)
    if named or len(missing) == len(wanted):
        raise DataError(named or next(iter(missing.values())))
    found = tuple(row for row in wanted if row.name not in missing)
    lacking = [row for row in found if row.answered_by and row.answered_by not in {other.name for other in found}]
    if names and lacking:
        raise ConfigError(f"{lacking[0].name} is answered by the model of {lacking[0].answered_by}: name that task too")
    return tuple(row for row in found if row not in lacking), (*missing, *(row.name for row in lacking))


def _why_missing(row: Row, data_dir: str | None) -> str:
    """Why a task has no data; empty where it has."""
    from hfcourse.data.loading import builder_module

    builder, _, config = row.data.partition("/")
    has_split = getattr(builder_module(builder), "has_split", None)
    if has_split is None:
        return ""
    split = "test" if row.answered_by else "train"
    try:
        if not has_split(config, data_dir, split):
            return f"{data_dir}: the folder of {row.name} holds no file of its {split} split"
    except FileNotFoundError as error:
        return str(error).replace("--task.data_dir", "--data_dir")  # as the suite calls it
    return ""
