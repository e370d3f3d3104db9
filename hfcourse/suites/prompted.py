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
        # A line ends of itself; bytes of other scripts than a tokenizer's own are up to three tokens a letter.
        "generation": Generation(max_new_tokens=96, stop=("\n",)),
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
        names: rows (``glue/rte``), all rows of a builder (``glue``), files of a task or a group, or folders of them.
        folders: builder -> the raw files; under the empty name, those of all others.
        trust: whether task files may run Python.

    Raises:
        ConfigError: an unknown task or builder; two tasks under one name.
    """
    for builder in folders:
        if builder and builder not in loading.builders():
            raise ConfigError(f"data_dir: {unknown('builder', builder, loading.builders())}")
    found: dict[str, tuple[str, Template]] = {}
    members: set[str] = set()
    for name in names:
        for origin, template in _members(name, folders, trust).items():
            key = template.name.replace("/", "-")  # of the files of its answers
            first, before = found.setdefault(key, (origin, template))
            if first != origin:
                raise ConfigError(f"{first} and {origin} are two tasks of the name {template.name}: rename one of them")
            groups = tuple(dict.fromkeys((*before.groups, *template.groups)))
            found[key] = (origin, replace(before, groups=groups))
            members |= {template.name} if name in _families() else set()
    return [template for _, template in found.values()], frozenset(members - set(names))


def folder_for(template: Template, folders: Mapping[str, str]) -> str | None:
    """The raw files of a task's builder."""
    return _folder(template.source.data.partition("/")[0], folders)


def _folder(builder: str, folders: Mapping[str, str]) -> str | None:
    return folders.get(builder, None if builder in _INSTALLED else folders.get(""))


def _members(name: str, folders: Mapping[str, str], trust: bool) -> dict[str, Template]:
    """The single tasks that a name stands for, by their row's name or their file."""
    builder, slash, _ = name.partition("/")
    path = Path(name).expanduser()
    if name in ROWS:
        return {name: ROWS[name]}
    if slash and builder in FAMILIES:
        return {name: _of_family(builder, name)}
    if name in FAMILIES:
        return {row: _of_family(name, row) for row in _configs(name, _folder(name, folders))}
    if name in _families():
        return {row: template for row, template in ROWS.items() if row.startswith(f"{name}/")}
    if path.suffix in _ENDINGS:
        return {str(file): template for file, template in lm_eval.load(path, trust=trust).items()}
    if not path.is_dir():
        raise ConfigError(unknown("task", name, [*ROWS, *_families()]) + " (or give a task file, my.yaml)")
    files = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
    files = [file for file in files if not file.name.startswith(("_", "."))]  # those are included by others
    if not files:
        raise ConfigError(f"{path}: no task files (*.yaml) here")
    found: dict[Path, Template] = {}
    for some in files:
        found = lm_eval.joined(found, lm_eval.load(some, trust=trust))
    return {str(file): one for file, one in found.items()}


def _of_family(builder: str, name: str) -> Template:
    row = FAMILIES[builder]
    return replace(row, name=name, source=replace(row.source, data=name))


def _families() -> set[str]:
    """Builders whose name stands for several tasks."""
    return {*FAMILIES, *(row.partition("/")[0] for row in ROWS)}


def _configs(builder: str, folder: str | None) -> list[str]:
    """All configs of a builder, or those that lie in a folder, as it is written before them."""
    if builder not in loading.builders():
        raise ConfigError(unknown("dataset", builder, loading.builders()))
    module = loading.builder_module(builder)
    found = list(module.configs(folder) or getattr(module, "CONFIGS", ()))
    if not found:
        where = f"there are none of its files in {folder}" if folder else f"give --data_dir {builder}=FOLDER"
        raise DataError(f"{builder} reads files that you have: {where}")
    return [f"{builder}/{config}" for config in found]
