"""The walls of the house: who may import whom, what a recipe may hold, and that all of it is installed."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hfcourse import recipe as recipes
from hfcourse.config import commented_yaml, from_dict, read_yaml, to_dict
from hfcourse.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
# An import only ever points down (CONTRIBUTING.md). A new room gets its floor here.
FLOORS = (
    {"cli", "__main__"},
    {"recipe", "suites"},
    {"engine", "hub", "report"},
    {"model", "headed_model", "native", "weights", "switchboard", "tasks", "objectives", "prompting"},
    {"heads", "data", "peft"},
    {"backbones", "metrics", "config", "values", "peft_settings", "run_folder", "checkpoints", "disk", "errors"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
RESTRICTED = ROOT / "hfcourse" / "hub" / "torch_files.py"
LONGEST_FUNCTION, LONGEST_FILE = 70, 400


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path, ROOT): path for path in sorted((ROOT / "hfcourse").rglob("*.py"))}
RECIPES = recipes.every()
FOLDERS = {"hfcourse": "hfcourse", "recipes": "hfcourse_recipes", "datasets_scripts": "hfcourse_datasets"}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(node: ast.AST, modules: dict[str, Path] | set[str]) -> Iterator[str]:
    """Full names of what a tree imports, wherever in it, but for what only a type checker sees."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.orelse:
            yield from imported(child, modules)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            yield inner if inner in modules else module
    else:
        for child in ast.iter_child_nodes(node):
            yield from imported(child, modules)


def graph() -> dict[str, set[str]]:
    assert not [name for path in MODULES.values() for name in imported(tree(path), MODULES) if name.startswith(".")]
    found = {name: set(imported(tree(path), MODULES)) for name, path in MODULES.items()}
    return {name: {target for target in targets if target in MODULES} - {name} for name, targets in found.items()}


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Imports that point to a floor above."""
    pairs = [(name, target) for name, targets in edges.items() for target in targets]
    inner = [(name, target) for name, target in pairs if "." in name and "." in target]
    rooms = {(name, target): (name.split(".")[1], target.split(".")[1]) for name, target in inner}
    return [f"{name} -> {target}" for (name, target), (a, b) in rooms.items() if FLOOR[a] > FLOOR[b]]


def circle(edges: dict[str, set[str]]) -> list[str]:
    """One circle of imports, or nothing."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(edges.get(name, ())):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := walk(name, []))), [])


# Walls


def test_every_room_has_a_floor() -> None:
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms <= FLOOR.keys(), "give the new room a floor in FLOORS"


def test_imports_point_down() -> None:
    assert upward(graph()) == []
    assert upward({"hfcourse.heads.a": {"hfcourse.tasks.b"}}) == ["hfcourse.heads.a -> hfcourse.tasks.b"]


def test_imports_go_in_no_circle() -> None:
    assert circle(graph()) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_package_never_imports_recipes_or_builders() -> None:
    for name, path in MODULES.items():
        outside = {target.split(".")[0] for target in imported(tree(path), MODULES)}
        assert not outside & {"recipes", "hfcourse_recipes", "tests", "benchmarks"}, name


def test_builders_stand_beside_the_house() -> None:
    for path in (ROOT / "datasets_scripts").glob("*.py"):
        assert not [name for name in imported(tree(path), set()) if name.split(".")[0] == "hfcourse"], path.name


@pytest.mark.parametrize("path", [path for path in SOURCES if "recipes" in path.parts], ids=lambda path: path.stem)
def test_recipes_hold_no_loop_of_their_own(path: Path) -> None:
    """The loop over batches lives in the engine alone."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"backward", "zero_grad", "train_dataloader", "DataLoader"}, f"line {node.lineno}"
        if isinstance(node, ast.For | ast.While):
            over = ast.unparse(node.iter if isinstance(node, ast.For) else node.test)
            assert not re.search(r"batch|loader|step|epoch|examples", over), f"line {node.lineno}: a loop over {over}"


def test_one_place_steps_an_optimizer() -> None:
    calls = {"backward", "zero_grad"}
    found = [
        name
        for name, path in MODULES.items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in calls
    ]
    assert set(found) == {"hfcourse.engine.step"}


# Size and plainness


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {length}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_files_do_one_job() -> None:
    assert [str(path) for path in SOURCES if len(path.read_text().splitlines()) > LONGEST_FILE] == []


def test_nothing_is_read_by_an_unrestricted_unpickler_or_run_by_eval() -> None:
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "pickle.load", "pickle.loads", "torch.load"}, path
            # One reader of foreign files has an unpickler: it makes records of what a file names, and calls none of it.
            if isinstance(node, ast.Attribute) and node.attr.endswith("Unpickler") and path != RESTRICTED:
                raise AssertionError(path)
            assert not (isinstance(node, ast.ImportFrom) and node.module in {"pickle", "dill", "joblib"}), path
    (reader,) = (
        node for node in ast.walk(tree(RESTRICTED)) if isinstance(node, ast.ClassDef) and node.name == "_Unpickler"
    )
    assert "find_class" in {part.name for part in reader.body if isinstance(part, ast.FunctionDef)}
    assert "super" not in ast.unparse(next(part for part in reader.body if getattr(part, "name", "") == "find_class"))


# Recipes


def test_there_are_recipes_and_each_folder_tells_its_results() -> None:
    assert {"bert/pretrain", "bert/finetune", "bert/tour"} <= {found.name for found in RECIPES}
    assert all((found.path.parent / "README.md").is_file() for found in RECIPES)


@pytest.mark.parametrize("found", RECIPES, ids=lambda found: found.name)
def test_a_recipe_has_its_parts(found: recipes.Recipe) -> None:
    module = found.module
    assert found.summary.endswith(".") and "Run:" in (module.__doc__ or "")
    assert module.main.__annotations__.keys() >= {"config", "run"} and "debug" in found.variants
    assert all(found.variants.values()), "each variant says what it is in its docstring"


@pytest.mark.parametrize(
    ("found", "variants"),
    [(found, names) for found in RECIPES for one in found.variants for names in ([one], [one, "debug"])],
    ids=lambda value: value.name if isinstance(value, recipes.Recipe) else "+".join(value),
)
def test_every_variant_builds_and_is_given_back(found: recipes.Recipe, variants: list[str], tmp_path: Path) -> None:
    config = found.configure(variants)
    text = commented_yaml(config)
    assert from_dict(found.module.Config, read_yaml(text, "shown")) == config
    run = RunFolder.create(tmp_path / "run", to_dict(config))
    assert from_dict(found.module.Config, run.config) == config


@pytest.mark.parametrize("found", RECIPES, ids=lambda found: found.name)
def test_every_setting_has_its_help(found: recipes.Recipe) -> None:
    lines = commented_yaml(found.configure()).splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if not line.lstrip().startswith(("#", "kind:")) and not before.lstrip().startswith("#")
    ]
    assert bare == []


# Installation


def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def listed(section: str, key: str) -> list[str]:
    return [line.strip() for line in metadata()[section][key].splitlines() if line.strip()]


def packages() -> dict[str, Path]:
    """Every folder with code, by the name under which it is installed."""
    return {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts]): init.parent
        for folder, package in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }


def test_every_package_is_installed() -> None:
    assert sorted(listed("options", "packages")) == sorted(packages()), "list the package in setup.cfg"
    bare = [
        path.parent
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ]
    assert bare == [], "a folder with code lacks __init__.py"


def test_every_file_beside_the_code_is_installed() -> None:
    rules = {key: value.split(", ") for key, value in metadata()["options.package_data"].items()}
    for package, folder in packages().items():
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in {".py", ".pyc", ".pyi"}:
                assert any(path.match(rule) for rule in rules.get(package, [])), f"{path} is not in the package data"


def test_ci_names_exact_versions_of_what_is_required() -> None:
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", line) for line in lines)
    pinned = {canonical(line.split("==")[0]) for line in lines}
    extras = [line for key in ("bench", "dev") for line in listed("options.extras_require", key)]
    for requirement in [*listed("options", "install_requires"), *extras]:
        assert canonical(re.split(r"[=<>!~ ;]", requirement)[0]) in pinned, requirement
