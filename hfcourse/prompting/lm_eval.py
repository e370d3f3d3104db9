"""Task files of EleutherAI's lm-evaluation-harness (0.4), run as they are.

What a file asks for that is not done here is refused by its name and line, never passed over: a score under another
meaning would be worse than none. ``!function`` runs Python out of the file's folder, so the user must say that it may.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hfcourse.errors import ConfigError, DataError, unknown
from hfcourse.prompting import judging
from hfcourse.prompting.judging import DEFAULT, METRICS, Filter, MetricUse
from hfcourse.prompting.requests import Generation
from hfcourse.prompting.task_files import Entry, Function, read
from hfcourse.prompting.templates import Group, Mean, Source, Template

_READERS = {"json", "csv", "parquet", "text", "arrow"}
"""Names by which `datasets` reads local files."""
_FIELDS = {"doc_to_text": "text", "doc_to_target": "target", "doc_to_choice": "choices"}
_DELIMITERS = ("target_delimiter", "fewshot_delimiter")
_NOTES = {"task", "task_alias", "tag", "group", "metadata", "should_decontaminate", "doc_to_decontamination_query"}
_DATA = {"dataset_path", "dataset_name", "dataset_kwargs", "process_docs"}
_DATA |= {"training_split", "validation_split", "test_split", "fewshot_split"}
_REST = {"description", "output_type", "generation_kwargs", "filter_list", "metric_list", "num_fewshot"}
_KNOWN = _NOTES | _DATA | _REST | {"fewshot_config", "repeats", "unsafe_code", *_FIELDS, *_DELIMITERS}
_GROUP = {"group", "group_alias", "task", "tag", "aggregate_metric_list", "metadata"}
"""Keys of a group."""
_SHOT_KEYS = {"sampler", "split", "samples", "process_docs", *_FIELDS, *_DELIMITERS}
_GENERATION = {"until", "max_gen_toks", "max_new_tokens", "do_sample", "temperature", "top_k", "top_p"}
_MAX_TOKENS = 256
"""The harness's longest answer where a file names none."""


def load(path: Path, *, trust: bool = False) -> dict[Path, Template]:
    """The task of a file, or the tasks of a group's, by the files that describe them.

    Args:
        path: a ``.yaml`` file.
        trust: run the Python functions that it names.

    Raises:
        ConfigError: no such file, no YAML, a key or value that is not supported (with file and line).
    """
    return _load(path.expanduser().resolve(), trust, ())


def _load(path: Path, trust: bool, above: tuple[Path, ...]) -> dict[Path, Template]:
    top = read(path)
    if not isinstance(top.plain("task"), list):
        return {path: _Reader(top, path, trust).template()}
    if path in above:
        raise ConfigError(f"{path}: the group is in itself (through {above[-1].name}): take it out of one")
    top.only(_GROUP, "key of a group")
    known = _siblings(path)
    found: dict[Path, Template] = {}
    for number, name in enumerate(top.plain("task")):
        if not isinstance(name, str) or name not in known:
            reason = unknown("task", str(name), known) if known else f"no task {name!r} in this folder"
            raise top.refused(f"task.{number}", reason)
        for file in known[name]:
            found = joined(found, _load(file, trust, (*above, path)))
    name, means = str(top.plain("group") or path.stem), _means(top, found.values())
    group = Group(name=name, means=means) if means else name
    return {file: replace(one, groups=(*one.groups, group)) for file, one in found.items()}


def _means(top: Entry, members: Collection[Template]) -> tuple[Mean, ...]:
    """What a group's file says of its scores."""
    key = "aggregate_metric_list"
    metrics = tuple(dict.fromkeys(use.name for one in members for use in one.metrics))
    filters = dict.fromkeys(name for one in members for name in one.filters)
    means = []
    for entry in [top.under(key)] if isinstance(top.plain(key), Mapping) else top.items(key):
        entry.only({"metric", "filter_list", "aggregation", "weight_by_size"}, f"key of {key}")
        entry.choice("aggregation", ("mean",), "mean")
        metric = entry.choice("metric", metrics, "")
        if not metric:
            raise entry.refused("metric", "it must be named")
        wanted = entry.plain("filter_list") or []
        wanted = [wanted] if isinstance(wanted, str) else wanted
        for name in wanted:
            if name not in filters:
                raise entry.refused("filter_list", unknown("filter", str(name), filters))
        by_size = bool(entry.plain("weight_by_size", True))
        means.append(Mean(metric=metric, filters=tuple(wanted), by_size=by_size))
    return tuple(means)


def joined(some: Mapping[Path, Template], more: Mapping[Path, Template]) -> dict[Path, Template]:
    """Both together; a task that is in both counts in the groups of both."""
    twice = {file: replace(one, groups=(*some[file].groups, *one.groups)) for file, one in more.items() if file in some}
    return {**some, **more, **{f: replace(one, groups=tuple(dict.fromkeys(one.groups))) for f, one in twice.items()}}


def _siblings(path: Path) -> dict[str, list[Path]]:
    """The files of a group's folder by the names of their tasks, tags and groups."""
    found: dict[str, list[Path]] = {}
    for file in sorted(path.parent.rglob("*.y*ml")):
        with contextlib.suppress(ConfigError):  # what is no task file is none of the group's
            top = read(file)
            task, tag = top.plain("task"), top.plain("tag", [])
            names = [task, *(tag if isinstance(tag, list) else [tag])] if isinstance(task, str) else []
            for name in names or [top.plain("group")] * (task is not None):
                found.setdefault(str(name), []).append(file.resolve())
    return found


@dataclass(frozen=True)
class _Reader:
    """One file on its way to a template."""

    top: Entry
    path: Path
    trust: bool

    def template(self) -> Template:
        self.top.only(_KNOWN, "key")
        name = str(self.top.plain("task") or self.path.stem)
        output = self.top.choice("output_type", tuple(DEFAULT), "generate_until")
        for key in ("doc_to_text", "doc_to_target"):
            if self.top.plain(key) is None:
                raise ConfigError(f"{self.path}: {key} is missing")
        if self.top.plain("repeats", 1) != 1:
            raise self.top.refused("repeats", "every question is asked once")
        if self.top.plain("unsafe_code"):
            raise self.top.refused("unsafe_code", "answers are not run")
        given: dict[str, Any] = {
            ours: self._value(self.top, theirs) for theirs, ours in _FIELDS.items() if theirs in self.top
        }
        given |= {key: self._text(self.top, key) for key in _DELIMITERS if key in self.top}
        shown, samples, select = self._examples()
        tags = [self.top.plain(key) for key in ("tag", "group")]
        return Template(
            name=name,
            source=self._source(),
            description=self._text(self.top, "description"),
            output=output,  # type: ignore[arg-type]
            generation=self._generation(given.get("fewshot_delimiter", "\n\n")),
            filters=self._filters(output),
            metrics=self._metrics(output),
            example=shown,
            samples=samples,
            select=select,  # type: ignore[arg-type]
            shots=self.top.whole("num_fewshot"),
            groups=tuple(str(one) for tag in tags if tag for one in (tag if isinstance(tag, list) else [tag])),
            **given,
        )

    # Fields

    def _value(self, entry: Entry, key: str) -> Any:
        found = entry.plain(key)
        if isinstance(found, Function):
            return self._function(entry, key, found)
        if isinstance(found, Mapping):  # doc_to_choice of label -> words
            return tuple(found.values())
        if isinstance(found, list):
            return tuple(found)
        if not isinstance(found, str | int):
            raise entry.refused(key, f"expected text, a number or a list, not {found!r}")
        return found

    def _text(self, entry: Entry, key: str) -> str:
        found = entry.plain(key)
        if isinstance(found, Function):
            raise entry.refused(key, "a function cannot stand here")
        return "" if found is None else str(found)

    def _function(self, entry: Entry, key: str, function: Function) -> Callable[..., Any]:
        if not self.trust:
            raise entry.refused(key, f"it runs Python ({function.name}): say --trust_task_code if you trust the file")
        module_name, _, name = function.name.rpartition(".")
        place = function.folder / f"{module_name.replace('.', '/')}.py"
        spec = importlib.util.spec_from_file_location(f"hfcourse_task_{abs(hash(place))}", place)
        if spec is None or spec.loader is None or not place.is_file():
            raise entry.refused(key, f"there is no {place}")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise entry.refused(key, f"{place} does not load ({type(error).__name__}: {error})") from error
        if not callable(getattr(module, name, None)):
            raise entry.refused(key, f"{place} has no function {name}")
        return partial(_guarded, getattr(module, name), entry.where(key))

    # Data

    def _source(self) -> Source:
        path, config = self._text(self.top, "dataset_path"), self._text(self.top, "dataset_name")
        if not path:
            raise ConfigError(f"{self.path}: dataset_path is missing")
        options = dict(self.top.mapping("dataset_kwargs"))
        options.pop("trust_remote_code", None)  # datasets runs no code of others any more
        splits = {key: self._text(self.top, f"{key}_split") for key in ("training", "validation", "test")}
        split = splits["test"] or splits["validation"]
        if not split:
            raise ConfigError(f"{self.path}: test_split or validation_split is missing")
        shots = self.top.mapping("fewshot_config").get("split") or self._text(self.top, "fewshot_split")
        shots = shots or splits["training"] or splits["validation"] or splits["test"]
        process = self._process(self.top)
        shown = self.top.under("fewshot_config")
        return Source(
            data=path,
            config=config,
            options=options,
            folder=str(self.path.parent),
            split=split,
            shots=str(shots),
            process=process,
            shots_process=self._process(shown) or process,
            by_library=path in _READERS or bool(options),
        )

    def _process(self, entry: Entry) -> Callable[..., Any] | None:
        """A table -> the table that is used."""
        found = entry.plain("process_docs")
        if found is not None and not isinstance(found, Function):
            raise entry.refused("process_docs", f"expected !function file.name, not {found!r}")
        return None if found is None else self._function(entry, "process_docs", found)

    def _examples(self) -> tuple[dict[str, Any], tuple[Any, ...], str]:
        """What examples have otherwise than the question, those written by hand, and how they are chosen."""
        entry = self.top.under("fewshot_config")
        entry.only(_SHOT_KEYS, "key of fewshot_config")
        shown = {ours: self._value(entry, theirs) for theirs, ours in _FIELDS.items() if theirs in entry}
        shown |= {key: self._text(entry, key) for key in _DELIMITERS if key in entry}
        samples = entry.plain("samples") or []
        if isinstance(samples, Function):
            samples = self._function(entry, "samples", samples)()
        if not isinstance(samples, list) or not all(isinstance(one, Mapping) for one in samples):
            raise entry.refused("samples", "expected a list of rows")
        if entry.plain("split") or self._text(self.top, "fewshot_split"):
            samples = []  # the harness takes the split where both are given
        sampler = entry.choice("sampler", ("default", "first_n"), "")
        return shown, tuple(samples), {"first_n": "first", "default": "random"}.get(sampler, "")

    # Answers

    def _generation(self, delimiter: str) -> Generation:
        entry = self.top.under("generation_kwargs")
        entry.only(_GENERATION, "key of generation_kwargs")
        until = entry.plain("until")
        until = delimiter if until is None else until
        stop = [until] if isinstance(until, str) else until
        if not isinstance(stop, list) or not all(isinstance(one, str) for one in stop):
            raise entry.refused("until", "expected text or a list of texts")
        named = next((name for name in ("max_gen_toks", "max_new_tokens") if name in entry), "")
        longest = entry.whole(named) if named else _MAX_TOKENS
        if not longest:
            raise entry.refused(named, "an answer has 1 token or more")
        sampled = bool(entry.plain("do_sample"))
        temperature = entry.number("temperature", 1.0 if sampled else 0.0)
        if temperature and "do_sample" in entry and not sampled:
            temperature = 0.0
        top_p = entry.number("top_p", 1.0)
        if not 0 < top_p <= 1:
            raise entry.refused("top_p", "expected a share, above 0 and up to 1")
        return Generation(
            max_new_tokens=longest,
            stop=tuple(one for one in stop if one),
            temperature=temperature,
            top_k=entry.whole("top_k") or 0,
            top_p=top_p,
        )

    def _filters(self, output: str) -> dict[str, tuple[Filter, ...]]:
        found: dict[str, tuple[Filter, ...]] = {}
        for pipeline in self.top.items("filter_list"):
            pipeline.only({"name", "filter"}, "key of filter_list")
            steps = [self._filter(step, output) for step in pipeline.items("filter")]
            found[str(pipeline.plain("name"))] = tuple(step for step in steps if step is not None)
        return found or {"none": ()}

    def _filter(self, step: Entry, output: str) -> Filter | None:
        name = step.choice("function", tuple(_FILTERS), "take_first")
        if name == "take_first":  # there is only one
            return None
        if output != "generate_until":
            raise step.refused("function", f"{name} is for generated answers, and output_type is {output}")
        options = {key: value for key, value in step.mapping().items() if key != "function"}
        try:
            return _FILTERS[name](**options)
        except Exception as error:  # a pattern that is none, an argument that the filter has not
            raise step.refused("function", f"{name} cannot take {options} ({error})") from error

    def _metrics(self, output: str) -> tuple[MetricUse, ...]:
        uses = []
        for entry in self.top.items("metric_list"):
            known = [name for name, metric in METRICS.items() if output in metric.outputs]
            name = entry.choice("metric", tuple(known), "")
            if not name:
                raise entry.refused("metric", "it must be named")
            allowed = _OPTIONS if name == "exact_match" and output == "generate_until" else {}
            # Weights are for the mean of a group, whose own file says them.
            entry.only({"metric", "aggregation", "higher_is_better", "weight_by_size", *allowed}, f"key of {name}")
            aggregation = METRICS[name].aggregation
            same = {"mean": ("mean", "nanmean")}.get(aggregation, (aggregation,))  # a score of a row is always a number
            entry.choice("aggregation", same, aggregation)
            if bool(entry.plain("higher_is_better", METRICS[name].higher)) is not METRICS[name].higher:
                raise entry.refused("higher_is_better", f"of {name} that is {METRICS[name].higher}")
            options = {key: entry.plain(key) for key in allowed if entry.plain(key) is not None}
            if "regexes_to_ignore" in options:
                options["regexes_to_ignore"] = _patterns(entry, "regexes_to_ignore")
            uses.append(MetricUse(name=name, options=options))
        return tuple(uses) or tuple(MetricUse(name=name) for name in DEFAULT[output])


_OPTIONS = ("ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore")


def _patterns(entry: Entry, key: str) -> list[str]:
    """One regular expression or several."""
    given = entry.plain(key)
    patterns = given if isinstance(given, list) else [given]
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise entry.refused(key, f"{pattern!r} is no regular expression ({error})") from error
    return patterns


def _regex(regex_pattern: str = r"#### (\-?[0-9\.\,]+)", group_select: int = 0, fallback: str = "[invalid]") -> Filter:
    return judging.regex(regex_pattern, group_select, fallback)


def _map(mapping_dict: Mapping[str, str], default_value: str | None = None) -> Filter:
    return lambda answer: str(mapping_dict.get(answer, default_value))


_FILTERS: dict[str, Callable[..., Filter]] = {
    "take_first": lambda: str,
    "regex": _regex,
    "lowercase": lambda: str.lower,
    "uppercase": lambda: str.upper,
    "remove_whitespace": lambda: str.strip,
    "map": _map,
}


def _guarded(function: Callable[..., Any], where: str, *arguments: Any) -> Any:
    """A file's own function; what it trips over is said in one line."""
    try:
        return function(*arguments)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{where}: the task's own function {function.__name__} failed ({reason})") from error
