"""Recipes: where they are, their variants, and how a command line becomes a run.

A recipe is a file with a docstring, a dataclass ``Config``, ``base()``, variants (public functions
``Config -> Config``, ``debug`` among them) and ``main(config, run)``. This module imports recipes by path; the
package never does by name.
"""

from __future__ import annotations

import ast
import glob
import importlib.util
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hfcourse import config as configs
from hfcourse import disk
from hfcourse.errors import ConfigError, RunFolderError, unknown
from hfcourse.run_folder import RunFolder

_NOT_VARIANTS = {"base", "main"}
_LAUNCH = ("output_dir", "config", "resume", "overwrite")


@dataclass(frozen=True)
class Launch:
    """How a run is started; none of it changes what is computed."""

    output_dir: str | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Recipe:
    """One recipe file."""

    name: str
    path: Path

    @property
    def module(self) -> ModuleType:
        """The imported file."""
        key = "hfcourse_recipe_" + "".join(c if c.isalnum() else "_" for c in str(self.path.resolve()))
        if key in sys.modules:
            return sys.modules[key]
        spec = importlib.util.spec_from_file_location(key, self.path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module  # before execution: dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[key]
            raise
        missing = [name for name in ("Config", "base", "debug", "main") if not hasattr(module, name)]
        if missing:
            del sys.modules[key]
            raise ConfigError(f"{self.path}: not a recipe: it lacks {', '.join(missing)}")
        return module

    @property
    def reference(self) -> str:
        """What finds the recipe again from any folder: its name, or for a file of one's own the path."""
        path = self.path.resolve()
        return self.name if path.is_relative_to(folder().resolve()) else str(path)

    @property
    def summary(self) -> str:
        """The first line of the docstring, read without running the file."""
        return _first_line(ast.get_docstring(self._tree))

    @property
    def variants(self) -> dict[str, str]:
        """Names and one line each, in the file's order, read without running the file."""
        functions = [node for node in self._tree.body if isinstance(node, ast.FunctionDef)]
        return {
            function.name: _first_line(ast.get_docstring(function))
            for function in functions
            if not function.name.startswith("_") and function.name not in _NOT_VARIANTS and _takes_one(function)
        }

    @property
    def _tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def configure(self, variants: Sequence[str] = ()) -> Any:
        """The settings of ``base()`` changed by each variant in turn."""
        config = self.module.base()
        for name in variants:
            if name not in self.variants:
                raise ConfigError(unknown(f"variant of {self.name}", name, self.variants))
            variant: Callable[[Any], Any] = getattr(self.module, name)
            config = variant(config)
            if not isinstance(config, self.module.Config):
                raise ConfigError(f"{self.path}: the variant {name} returns {type(config).__name__}, not a Config")
        return config


def folder() -> Path:
    """Where the package's own recipes are installed."""
    spec = importlib.util.find_spec("hfcourse_recipes")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(__file__).resolve().parent.parent / "recipes"  # a checkout that was not installed


def every() -> list[Recipe]:
    """All recipes of the package, by name."""
    root = folder()
    return [
        Recipe(str(path.relative_to(root).with_suffix("")), path)
        for path in sorted(root.rglob("*.py"))
        if not path.name.startswith("_")
    ]


def find(name: str) -> Recipe:
    """A recipe by its name (``bert/pretrain``) or by the path of its file.

    Raises:
        ConfigError: there is none, with the nearest names.
    """
    known = {recipe.name: recipe for recipe in every()}
    if name in known:
        return known[name]
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"{name}: no such recipe file")
        return next((r for r in known.values() if r.path.resolve() == path.resolve()), Recipe(path.stem, path))
    raise ConfigError(unknown("recipe", name, known))


def parse(arguments: Sequence[str], recipe: Recipe | None = None) -> tuple[Recipe, list[str], Any, Launch]:
    """``[NAME] [variants ...] [--config FILE] [--output_dir DIR] [--resume] [--overwrite] [--settings ...]``.

    Raises:
        ConfigError: what does not fit, in one line.
    """
    names, flags = _split(arguments)
    launch, saved, flags = _launch(flags)
    values: dict[str, Any] = {}
    if saved is not None:
        values = _read_saved(saved)
        named = values.pop("recipe", None)
        variants = _variants_of(values.pop("variant", None))
        if recipe is None:
            if not names and named is None:
                raise ConfigError(f"{saved} names no recipe: give its NAME too, such as bert/pretrain")
            recipe = find(names.pop(0) if names else str(named))
        if names:
            raise ConfigError(f"{names[0]!r}: variants do not go with --config; change settings with --name value")
        config = _from_saved(recipe, variants, values, saved)
    else:
        if recipe is None:
            if not names:
                raise ConfigError("name a recipe, such as bert/tour; `hfcourse list` shows all")
            recipe = find(names.pop(0))
        variants = names
        config = recipe.configure(variants)
    config = configs.override(config, flags, others=_LAUNCH)
    return recipe, variants, config.resolved() if hasattr(config, "resolved") else config, launch


def start(recipe: Recipe, variants: Sequence[str], config: Any, launch: Launch) -> Any:
    """Make (or take up) the run folder and run the recipe's main; every process of a launch calls it."""
    saved = {"recipe": recipe.reference, "variant": list(variants)}
    saved |= configs.to_dict(config)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return recipe.module.main(config, _shared_folder(recipe, variants, saved, launch))
    return recipe.module.main(config, _folder(recipe, variants, saved, launch))


def copy(name: str, to: Path) -> list[Path]:
    """Copy a recipe's file and its README for editing; nothing is overwritten.

    Returns:
        The files that were written. A README that an earlier copy left as it is stays.

    Raises:
        RunFolderError: a file of that name is there already, or the folder cannot be written.
    """
    recipe = find(name)
    readme = recipe.path.parent / "README.md"
    targets = {to / source.name: source for source in [recipe.path, *([readme] if readme.is_file() else [])]}
    same = [place for place, source in targets.items() if place != to / recipe.path.name and _equal(place, source)]
    for target in targets.keys() - same:
        if target.exists():
            raise RunFolderError(f"{target} is there already: give another folder")
    with disk.clear_errors(to, "free some space, or give another folder"):
        to.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(source, place)) for place, source in targets.items() if place not in same]


def _equal(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def _folder(recipe: Recipe, variants: Sequence[str], saved: Mapping[str, Any], launch: Launch) -> RunFolder:
    path = Path(launch.output_dir) if launch.output_dir else _default_folder(recipe, variants, resume=launch.resume)
    return RunFolder.create(path, saved, resume=launch.resume, overwrite=launch.overwrite)


def _shared_folder(recipe: Recipe, variants: Sequence[str], saved: Mapping[str, Any], launch: Launch) -> RunFolder:
    """One process makes the folder, the others learn its name (or its error)."""
    from accelerate.utils import broadcast_object_list

    from hfcourse.engine import machine

    state = machine.processes()
    machine.leave_processes_at_exit()
    if state.num_processes == 1:
        raise ConfigError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but the processes did not join: use torchrun")
    run: RunFolder | None = None
    answer: list[Any] = [None]
    if state.is_main_process:
        try:
            run = _folder(recipe, variants, saved, launch)
            answer = [run.path]
        except RunFolderError as error:
            answer = [error]
    broadcast_object_list(answer)
    if isinstance(answer[0], RunFolderError):
        raise answer[0]
    return run or RunFolder.attach(answer[0], resume=launch.resume)


def _default_folder(recipe: Recipe, variants: Sequence[str], *, resume: bool) -> Path:
    """``runs/<recipe>-<variants>-<n>``: a new number, or the last one to resume."""
    stem = "-".join([recipe.name.replace("/", "-"), *variants])
    numbers = [path.name.removeprefix(f"{stem}-") for path in Path("runs").glob(f"{glob.escape(stem)}-*")]
    last = max([int(number) for number in numbers if number.isdecimal()], default=0)
    if resume:
        return Path("runs") / f"{stem}-{max(last, 1)}"
    while True:
        path = Path("runs") / f"{stem}-{last + 1}"
        try:
            path.mkdir(parents=True)  # takes the number, should another run start right now
            return path
        except FileExistsError:
            if not path.is_dir():  # `runs` is a file, or something of that name is in the way
                return path
            last += 1
        except OSError:  # said by RunFolder in its own words
            return path


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names before the first flag, and the rest."""
    first = next((n for n, word in enumerate(arguments) if word.startswith("--")), len(arguments))
    return list(arguments[:first]), list(arguments[first:])


def _launch(flags: list[str]) -> tuple[Launch, Path | None, list[str]]:
    """Take the flags of the launch out of the settings."""
    rest: list[str] = []
    taken: dict[str, str] = {}
    words = iter(flags)
    for word in words:
        name, equals, _ = word[2:].replace("-", "_").partition("=") if word.startswith("--") else ("", "", "")
        if name in {"resume", "overwrite"}:
            if equals:
                raise ConfigError(f"--{name} takes no value")
            taken[name] = "true"
        elif name in {"output_dir", "config"}:
            taken[name] = word.partition("=")[2] if equals else next(words, "")
            if not taken[name] or (not equals and taken[name].startswith("--")):
                raise ConfigError(f"--{name} needs a value")
        else:
            rest.append(word)
    if "resume" in taken and "overwrite" in taken:
        raise ConfigError("--resume and --overwrite exclude each other")
    saved = Path(taken["config"]) if "config" in taken else None
    return Launch(taken.get("output_dir"), "resume" in taken, "overwrite" in taken), saved, rest


def _read_saved(path: Path) -> dict[str, Any]:
    path = path / "config.yaml" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the settings ({getattr(error, 'strerror', None) or error})") from error
    return configs.read_yaml(text, str(path))


def _from_saved(recipe: Recipe, variants: list[str], values: dict[str, Any], path: Path) -> Any:
    """Saved settings; a file that leaves some out gets those of its variants."""
    known = configs.to_dict(recipe.configure(variants))
    return configs.from_dict(recipe.module.Config, _merged(known, values), where=str(path))


def _variants_of(saved: Any) -> list[str]:
    """The ``variant`` of a saved file: a list, or one name as a person writes it."""
    return saved.split() if isinstance(saved, str) else [str(name) for name in saved or []]


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        same = nested and value.get("kind", merged[key].get("kind")) == merged[key].get("kind")
        merged[key] = _merged(merged[key], value) if same else value
    return merged


def _takes_one(function: ast.FunctionDef) -> bool:
    """Whether a function has the shape of a variant: one argument, the Config."""
    return len(function.args.args) + len(function.args.posonlyargs) == 1 and not function.args.kwonlyargs


def _first_line(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\n")[0]
