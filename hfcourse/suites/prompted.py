"""Tasks of in-context evaluation as rows, and the way from a name on the command line to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hfcourse.data import loading
from hfcourse.errors import ConfigError, DataError, unknown
from hfcourse.prompting import lm_eval
from hfcourse.prompting.judging import MetricUse
from hfcourse.prompting.rendering import Field, Row
from hfcourse.prompting.requests import Generation
from hfcourse.prompting.templates import Source, Template

_TRUE = ("True", "False")
_NO_YES = ("no", "yes")


def _uses(*names: str) -> tuple[MetricUse, ...]:
    return tuple(MetricUse(name=name) for name in names)


def _glue(
    name: str, text: str, choices: tuple[str, ...], *metrics: str, split: str = "dev", shots: str = "train", **more: Any
) -> Template:
    """A task of GLUE (arXiv 1804.07461); questions and words as in lm-evaluation-harness."""
    return Template(
        name=f"glue/{name}",
        source=Source(data=f"glue/{name.removesuffix('_mismatched')}", split=split, shots=shots),
        text=text,
        choices=choices,
        output="multiple_choice",
        metrics=_uses(*metrics) or _uses("acc"),
        groups=("glue",),
        **({"target": "label"} | more),
    )


_ENTAILS = "{{sentence1}}\nQuestion: {{sentence2}} True or False?\nAnswer:"
_NLI = "{{premise}}\nQuestion: {{hypothesis}} True, False or Neither?\nAnswer:"
_NLI_WORDS = ("True", "Neither", "False")
_RATING = ("0", "1", "2", "3", "4", "5")
_GLUE = (
    _glue("cola", "{{sentence}}\nQuestion: Does this sentence make sense?\nAnswer:", _NO_YES, "mcc", "acc"),
    _glue(
        "sst2",
        "{{sentence}}\nQuestion: Is this sentence positive or negative?\nAnswer:",
        ("negative", "positive"),
    ),
    _glue(
        "mrpc",
        "Sentence 1: {{sentence1}}\nSentence 2: {{sentence2}}\n"
        "Question: Do both sentences mean the same thing?\nAnswer:",
        _NO_YES,
        "acc",
        "f1",
    ),
    _glue(
        "stsb",
        "Sentence 1: {{sentence1}}\nSentence 2: {{sentence2}}\n"
        "Question: From 0 to 5, how similar are both sentences?\nAnswer:",
        _RATING,
        "pearson",
        "spearman",
        target="{{ label }}",
        example={"target": "{{ label | round | int }}"},
    ),
    _glue(
        "qqp",
        "Question 1: {{question1}}\nQuestion 2: {{question2}}\n"
        "Question: Do both questions ask the same thing?\nAnswer:",
        _NO_YES,
        "acc",
        "f1",
    ),
    _glue("mnli", _NLI, _NLI_WORDS),
    _glue("mnli_mismatched", _NLI, _NLI_WORDS, split="dev_mismatched"),
    _glue(
        "qnli",
        "{{question}}\n{{sentence}}\nQuestion: Does this response answer the question?\nAnswer:",
        ("yes", "no"),
    ),
    _glue("rte", _ENTAILS, _TRUE),
    _glue("wnli", _ENTAILS, ("False", "True")),
    _glue("ax", _NLI, _NLI_WORDS, "mcc", "acc", split="test", shots="glue/mnli:train"),
)


def _line(name: str, data: str, text: str, target: Field, **more: Any) -> Template:
    """One line a question, its answer at the end of the line: exact match, as GPT-3 was judged (arXiv 2005.14165)."""
    given: dict[str, Any] = {
        "metrics": _uses("exact_match"),
        "generation": Generation(max_new_tokens=32, stop=("\n",)),
        "filters": {"none": (str.strip,)},
        "fewshot_delimiter": "\n",
    }
    return Template(name=name, source=Source(data=data), text=text, target=target, **(given | more))


def _languages(row: Row) -> str:
    """The instruction of GPT-3's translations, in English whatever the languages are."""
    from babel import Locale

    source, target = (Locale.parse(row[f"{side}_language"], sep="-") for side in ("source", "target"))
    return f"Translate {source.get_display_name('en')} to {target.get_display_name('en')}:\n"


_PYDOCS = (
    Template(
        name="pydocs/topic",
        source=Source(data="pydocs/topic"),
        text="{{ text }}\nQuestion: Which package is this about?\nAnswer:",
        target="label",
        output="multiple_choice",
        metrics=_uses("acc"),
        groups=("pydocs",),
    ),
    Template(
        name="pydocs/match",
        source=Source(data="pydocs/match"),
        text="{{ text }}\n{{ text_pair }}\nQuestion: Do the description and the signature belong together?\nAnswer:",
        target="label",
        choices=_NO_YES,
        output="multiple_choice",
        metrics=_uses("acc"),
        groups=("pydocs",),
    ),
    _line(
        "pydocs/answer",
        "pydocs/answer",
        "{{ context }}\nQuestion: {{ question }}\nAnswer:",
        lambda row: list(row["answers"]["text"]),
        metrics=_uses("exact_match", "f1"),
        fewshot_delimiter="\n\n",
        groups=("pydocs",),
    ),
)
ROWS = {row.name: row for row in (*_GLUE, *_PYDOCS)}
# Builders whose configs are all asked alike; of those a user has the ones whose files are there.
FAMILIES = {
    "gpt3_tasks": _line(
        "gpt3_tasks", "gpt3_tasks", "{{ context | trim }}", "{{ completion | trim }}", groups=("gpt3_tasks",)
    ),
    "word_pairs": _line("word_pairs", "word_pairs", "{{ input }} =>", "{{ output }}", groups=("word_pairs",)),
    "cldr": _line(
        "cldr",
        "cldr",
        "{{ source }} =>",
        "{{ target }}",
        description=_languages,
        metrics=_uses("exact_match", "chrf", "bleu"),
        groups=("cldr",),
    ),
}
_INSTALLED = {"pydocs", "cldr"}
"""Builders of what is installed: a folder that is meant for others is none of theirs."""
_ENDINGS = {".yaml", ".yml"}
DEFAULT = ("pydocs", "cldr/lexicon")
"""What needs no data but what is installed."""


def choose(
    names: Sequence[str], folders: Mapping[str, str], *, trust: bool = False
) -> tuple[list[Template], frozenset[str]]:
    """The tasks that some names stand for, and the names of those that came as members of a whole family.

    Of a family a user may have some members only: those whose data is not there may be left out.

    Args:
        names: rows (``glue/rte``), all rows of a builder (``glue``), task files, or folders of task files.
        folders: builder -> the raw files; under the empty name, those of all others.
        trust: whether task files may run Python.

    Raises:
        ConfigError: an unknown task; two tasks under one name.
    """
    found: dict[str, tuple[str, Template]] = {}
    members: set[str] = set()
    for name in names:
        single = _members(name, folders)
        for one in single:
            template = _task(one, trust)
            origin, _ = found.setdefault(template.name.replace("/", "-"), (one, template))
            if origin != one:
                raise ConfigError(
                    f"{origin} and {one} are two tasks of the name {template.name}: give one another name"
                )
        members |= set(single) - {name}
    return [template for _, template in found.values()], frozenset(members - set(names))


def folder_for(template: Template, folders: Mapping[str, str]) -> str | None:
    """The raw files of a task's builder."""
    return _folder(template.source.data.partition("/")[0], folders)


def _folder(builder: str, folders: Mapping[str, str]) -> str | None:
    return folders.get(builder, None if builder in _INSTALLED else folders.get(""))


def _members(name: str, folders: Mapping[str, str]) -> list[str]:
    """The single tasks that a name stands for: names of rows, and paths of files."""
    builder, slash, _ = name.partition("/")
    if name in ROWS or (slash and builder in FAMILIES) or Path(name).suffix in _ENDINGS:
        return [str(Path(name).expanduser()) if Path(name).suffix in _ENDINGS else name]
    if name in FAMILIES:
        return [f"{name}/{config}" for config in _configs(name, _folder(name, folders))]
    if name in _families():
        return [row for row in ROWS if row.startswith(f"{name}/")]
    path = Path(name).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
        files = [file for file in files if not file.name.startswith(("_", "."))]  # those are included by others
        if not files:
            raise ConfigError(f"{path}: no task files (*.yaml) here")
        return [str(file) for file in files]
    raise ConfigError(unknown("task", name, [*ROWS, *_families()]) + " (or give a task file, my.yaml)")


def _task(name: str, trust: bool) -> Template:
    if Path(name).suffix in _ENDINGS:
        return lm_eval.load(Path(name), trust=trust)
    if name in ROWS:
        return ROWS[name]
    row = FAMILIES[name.partition("/")[0]]
    return replace(row, name=name, source=replace(row.source, data=name))


def _families() -> set[str]:
    """Builders whose name stands for several tasks."""
    return {*FAMILIES, *(row.partition("/")[0] for row in ROWS)}


def _configs(builder: str, folder: str | None) -> list[str]:
    """The configs of a builder, or those that lie in a folder."""
    if builder not in loading.builders():
        raise ConfigError(unknown("dataset", builder, loading.builders()))
    module = loading.builder_module(builder)
    found = list(module.configs(folder) or getattr(module, "CONFIGS", ()))
    if not found:
        where = f"there are none of its files in {folder}" if folder else f"give --data_dir {builder}=FOLDER"
        raise DataError(f"{builder} reads files that you have: {where}")
    return found
