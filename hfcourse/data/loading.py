"""One call for every source of data: a builder of ours, a local file or folder, a Hub dataset."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import importlib.util
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hfcourse.data import files
from hfcourse.errors import DataError, HfcourseError, unknown

if TYPE_CHECKING:
    import datasets

BUILDERS = "hfcourse_datasets"
# Words by which people name a split, in file names and on the Hub.
SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "devel": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "eval": "dev",
    "test": "test",
    "testing": "test",
}


def builders() -> list[str]:
    """Names of the builders that come with the package."""
    return sorted(path.stem for path in _builders_folder().glob("*.py") if not path.name.startswith(("_", "base")))


def builder_module(name: str) -> ModuleType:
    """The module of one of `builders`."""
    return importlib.import_module(f"{BUILDERS}.{name}")


def is_builder(name: str) -> bool:
    """Whether `name` is ``builder`` or ``builder/config``, and not a file in a folder of such a name."""
    is_file = Path(name).is_file() or files.kind_of(Path(name)) is not None
    return name.partition("/")[0] in builders() and name.count("/") <= 1 and not is_file


def load(
    name: str,
    *,
    data_dir: str | None = None,
    revision: str = "main",
    cache_dir: str | None = None,
) -> datasets.DatasetDict:
    """Every split of a dataset, under ``train``, ``dev`` and ``test`` where it uses the usual words for them.

    Args:
        name: ``builder`` or ``builder/config`` (`builders`, such as ``pydocs/topic``); a file or folder of
            csv, tsv, json, jsonl, parquet or txt (also .gz), whose splits are read off the file names; or a Hub id.
        data_dir: the raw files, for builders that read some.
        revision: of a Hub dataset.
        cache_dir: where prepared data goes; the library's own place where not given.

    Raises:
        DataError: no such name, file or config; a file that is not UTF-8 or not a table; an empty split.
    """
    with quiet():
        if is_builder(name):
            builder, _, config = name.partition("/")
            splits = _build(builder, config or None, data_dir, cache_dir)
        elif Path(name).expanduser().exists():
            splits = _read(Path(name).expanduser())
        elif _is_path(name):
            raise DataError(f"{name}: no such file or folder")
        else:
            splits = _from_hub(name, data_dir, revision, cache_dir)
    for split, table in splits.items():
        if not len(table):
            raise DataError(f"{name}: split {split!r} is empty")
        splits[split] = _undecoded(table)
    return splits


def labels_of(table: datasets.Dataset, column: str) -> list[str] | None:
    """Class names of a column (or of its items), if the dataset declares them."""
    feature = table.features[column]
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if hasattr(feature, "names") else None


def column(table: datasets.Dataset, name: str, where: str) -> str:
    """`name`, if the table has it.

    Raises:
        DataError: it does not; the nearest ones are named.
    """
    if name not in table.column_names:
        raise DataError(f"{where}: {unknown('column', name, table.column_names)}")
    return name


def split_of(file_name: str) -> str | None:
    """The split that a file's name tells (``my-train-v2.tsv``: train); None if it tells none."""
    found = _split_words(file_name)
    return found.pop() if len(found) == 1 else None


def _split_words(file_name: str) -> set[str]:
    return {SPLITS[word] for word in re.split(r"[^a-z]+", file_name.lower()) if word in SPLITS}


def split_files(path: Path) -> dict[str, list[Path]]:
    """Data files by split: one file is ``train`` unless its name says otherwise; a folder goes by names.

    Raises:
        DataError: a folder without data files, or with several whose names tell no split.
    """
    if path.is_file():
        return {split_of(path.name) or "train": [path]}
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and files.kind_of(file) is not None]
    # Editors, notebooks and file systems leave hidden copies.
    found = [f for f in found if not any(part.startswith(".") for part in f.relative_to(path).parts)]
    # READMEs and licences beside the data are no data, unless there is nothing else.
    found = [f for f in found if _split_words(str(f.relative_to(path)))] or found
    if not found:
        raise DataError(f"{path}: no data files (csv, tsv, json, jsonl, parquet or txt, also .gz)")
    splits: dict[str, list[Path]] = {}
    for file in found:
        split = split_of(str(file.relative_to(path))) or ("train" if len(found) == 1 else None)
        if split is None:
            names = ", ".join([file.name, *(other.name for other in found if other != file)][:4])
            raise DataError(f"{path}: cannot tell splits by file names ({names}): put train, dev or test into each")
        splits.setdefault(split, []).append(file)
    return splits


def conll_builder(name: str) -> str | None:
    """The builder that reads a CoNLL file or a folder of them; None for anything else."""
    path = Path(name).expanduser()
    found = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    endings = {file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix for file in found}
    if ".conllu" in endings:
        return "conllu"
    return "conll2003" if endings & {".conll", ".iob", ".iob2", ".bio", ".conll03"} else None


def is_squad_file(name: str) -> bool:
    """Whether a JSON file, or one in a folder, has SQuAD's layout (``data`` > ``paragraphs`` > ``qas``)."""
    path = Path(name).expanduser()
    found = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    jsons = [file for file in found if files.kind_of(file) == "json"]
    if not jsons:
        return False
    try:
        with gzip.open(jsons[0], "rb") if jsons[0].suffix == ".gz" else jsons[0].open("rb") as stream:
            return b'"paragraphs"' in stream.read(2**20)
    except (OSError, EOFError, zlib.error):  # whoever reads it says what is wrong
        return False


def _undecoded(table: datasets.Dataset) -> datasets.Dataset:
    """The table with recordings as bytes and paths: to decode them the library would want a package of its own."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Audio) and feature.decode:
            table = table.cast_column(name, datasets.Audio(decode=False))
    return table


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or files.kind_of(Path(name)) is not None


def _builders_folder() -> Path:
    spec = importlib.util.find_spec(BUILDERS)
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(__file__).resolve().parents[2] / "datasets_scripts"


def _read(path: Path) -> datasets.DatasetDict:
    import datasets
    import pyarrow as pa

    splits = {}
    for split, found in split_files(path).items():
        parts = [files.read(file) for file in found]
        try:
            splits[split] = datasets.concatenate_datasets(parts)
        except (ValueError, TypeError, pa.ArrowInvalid) as error:
            raise DataError(f"{path}: {_unlike(found, parts)}") from error
    return datasets.DatasetDict(splits)


def _unlike(found: list[Path], parts: list[datasets.Dataset]) -> str:
    """Which file has a column of another type than the ones before it."""
    kinds: dict[str, tuple[Any, Path]] = {}
    for file, part in zip(found, parts, strict=True):
        for name, kind in part.features.items():
            before, first = kinds.setdefault(name, (kind, file))
            if before != kind:
                return f"column {name!r} is of another type in {file.name} than in {first.name}"
    return f"the tables of {', '.join(file.name for file in found[:4])} do not fit together"


def _build(name: str, config: str | None, data_dir: str | None, cache_dir: str | None) -> datasets.DatasetDict:
    module = builder_module(name)
    builder_class = _builder_class(module)
    # Of some corpora each user has other parts: their builders tell which configs lie in the folder.
    found = module.configs(data_dir) if hasattr(module, "configs") else None
    known = list(builder_class.builder_configs) if found is None else found
    if config is not None and not known and found is None:
        raise DataError(f"{name} has no configs, and {config!r} is none: write {name!r} alone")
    if config is not None and known and config not in known:
        raise DataError(unknown(f"config of {name}", config, known))
    if config is None and len(known) > 1 and builder_class.DEFAULT_CONFIG_NAME is None:
        raise DataError(f"{name} needs a config, such as {name}/{known[0]}: one of {', '.join(known)}")
    config = known[0] if config is None and found else config
    if data_dir is not None and not Path(data_dir).expanduser().exists():
        layout = getattr(builder_class, "LAYOUT", "")
        expected = f": expected {layout}" if layout else ""
        raise DataError(f"{data_dir}: no such file or folder (the data_dir of {name}){expected}")
    try:
        builder = builder_class(
            config_name=config, data_dir=data_dir, cache_dir=cache_dir, hash=module.fingerprint(data_dir)
        )
        builder.download_and_prepare()
        for split, info in builder.info.splits.items():
            if not info.num_examples:
                raise DataError(f"{name}: split {split!r} is empty")
        splits = builder.as_dataset()
    except HfcourseError:
        raise
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, ValueError | OSError):
            raise DataError(f"{name}: {str(cause).splitlines()[0]}") from error
        raise
    return _with_usual_names(splits)


def _builder_class(module: ModuleType) -> Any:
    import datasets

    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, datasets.DatasetBuilder)
        and value.__module__ == module.__name__
    )


def _cause(error: BaseException) -> BaseException:
    """What the builder said, inside datasets' wrapping."""
    import datasets

    while isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _from_hub(name: str, data_dir: str | None, revision: str, cache_dir: str | None) -> datasets.DatasetDict:
    import datasets

    try:
        splits = datasets.load_dataset(name, data_dir=data_dir, revision=revision, cache_dir=cache_dir)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = unknown("dataset", name.partition("/")[0], builders())
        raise DataError(f"{hint} ({name!r} is no local path, and the Hub does not give it: {reason})") from error
    return _with_usual_names(splits)


def _with_usual_names(splits: Mapping[Any, datasets.Dataset]) -> datasets.DatasetDict:
    """Splits by the usual words; one keeps its own name where another split has that word."""
    import datasets

    found = datasets.DatasetDict()
    for split, table in splits.items():
        own = str(split)
        usual = SPLITS.get(own, own)
        taken = usual in found or usual in {str(other) for other in splits}
        found[own if taken else usual] = table
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block no bars and no log lines of the library: reading is quick, and what fails says so itself."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
