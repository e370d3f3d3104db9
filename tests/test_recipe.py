"""Recipes: found, varied, started, and their run folders named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hfcourse import recipe as recipes
from hfcourse.config import commented_yaml, to_dict
from hfcourse.errors import ConfigError, RunFolderError
from hfcourse.recipe import Launch, Recipe
from hfcourse.run_folder import RunFolder

SOURCE = '''"""Grow a plant.

More about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hfcourse.engine.settings import OptimConfig, TrainConfig
from hfcourse.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Config:
    """A plant."""

    seed: int = 0
    """Decides everything."""
    height: float = 1.0
    """In metres."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it grows."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How long."""


def base() -> Config:
    """A tree."""
    return Config(height=20.0)


def small(config: Config) -> Config:
    """A bush.

    With leaves.
    """
    return replace(config, height=config.height / 10)


def tall(config: Config) -> Config:
    """Three metres more."""
    return replace(config, height=config.height + 3)


def broken(config: Config) -> Config:
    """Forgets what it should return."""


def debug(config: Config) -> Config:
    """A seed."""
    return replace(config, height=0.01)


def learn(config: Config, run: RunFolder) -> None:
    """No variant: it takes a run."""


def _hidden(config: Config) -> Config:
    return config


def main(config: Config, run: RunFolder) -> None:
    """Grow."""
    if run.is_main:
        run.write_json("metrics.json", {"height": config.height, "seed": config.seed, "resume": run.resume})


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
'''


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (tmp_path / "plant.py").write_text(SOURCE)
    return recipes.find("plant.py")


def start(*words: str) -> None:
    recipes.start(*recipes.parse(words))


def metrics(folder: str) -> dict[str, Any]:
    return RunFolder.open(folder).read_json("metrics.json")  # type: ignore[no-any-return]


def test_what_a_file_says_of_itself(plant: Recipe) -> None:
    assert (plant.name, plant.summary) == ("plant", "Grow a plant.")
    assert plant.variants == {
        "small": "A bush.",
        "tall": "Three metres more.",
        "broken": "Forgets what it should return.",
        "debug": "A seed.",
    }


def test_listing_runs_no_recipe() -> None:
    code = "import sys; from hfcourse import recipe; [(r.summary, r.variants) for r in recipe.every()]; "
    code += "print([name for name in sys.modules if 'hfcourse_recipe_' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_variants_compose_from_left_to_right(plant: Recipe) -> None:
    assert plant.configure().height == 20
    assert plant.configure(["small", "tall"]).height == 5
    assert plant.configure(["tall", "small"]).height == 2.3


def test_overrides_come_over_variants(plant: Recipe) -> None:
    _, variants, config, launch = recipes.parse(
        ["plant.py", "small", "tall", "--height", "1e-2", "--optim.head-lr=3e-4", "--output-dir", "x", "--resume"]
    )
    assert (variants, config.height, config.optim.head_lr) == (["small", "tall"], 0.01, 3e-4)
    assert launch == Launch(output_dir="x", resume=True, overwrite=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bert/pretrian"], "unknown recipe 'bert/pretrian': did you mean 'bert/pretrain'"),
        (["nowhere.py"], "nowhere.py: no such recipe file"),
        ([], "name a recipe"),
        (["plant.py", "smal"], "unknown variant of plant 'smal': did you mean 'small'"),
        (["plant.py", "learn"], "unknown variant of plant 'learn'"),
        (["plant.py", "broken"], "the variant broken returns NoneType, not a Config"),
        (["plant.py", "--heigth", "1"], "unknown setting '--heigth': did you mean '--height'"),
        (["plant.py", "--resum"], "did you mean '--resume'"),
        (["plant.py", "--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["plant.py", "--resume=yes"], "--resume takes no value"),
        (["plant.py", "--output_dir"], "--output_dir needs a value"),
        (["plant.py", "--output_dir", "--resume"], "--output_dir needs a value"),
        (["plant.py", "--height", "2", "small"], "'small' after --height 2 is out of place"),
        (["--config", "none.yaml"], "none.yaml: cannot read the settings (No such file or directory)"),
    ],
)
def test_mistakes_are_one_line(plant: Recipe, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipes.parse(words)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "no.py").write_text("def base(): ...")
    with pytest.raises(ConfigError, match=r"no.py: not a recipe: it lacks Config, debug, main"):
        recipes.parse([str(tmp_path / "no.py")])


@pytest.mark.parametrize("name", [recipe.name for recipe in recipes.every()])
def test_the_path_of_an_own_recipe_is_its_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipes.folder())
    assert recipes.find(f"{name}.py").name == name


# The saved settings


def test_a_saved_config_repeats_the_run(plant: Recipe) -> None:
    start("plant.py", "small", "--seed", "3", "--optim.lr", "3e-5", "--optim.betas", "0.8", "0.9")
    saved = "runs/plant-small-1/config.yaml"
    for words in (["--config", saved], ["--config", "runs/plant-small-1"], ["plant.py", f"--config={saved}"]):
        found, variants, config, _ = recipes.parse(words)
        assert (found.path.resolve(), variants) == (plant.path.resolve(), ["small"])
        assert to_dict(config) == to_dict(recipes.parse(["plant.py", "small", *OPTIM])[2])
    assert recipes.parse(["--config", saved, "--height", "7"])[2].height == 7


OPTIM = ["--seed", "3", "--optim.lr", "3e-5", "--optim.betas", "0.8", "0.9"]


def test_what_show_prints_is_taken_back(plant: Recipe) -> None:
    found, variants, config, _ = recipes.parse(["plant.py", "tall", *OPTIM])
    text = commented_yaml(config, {"recipe": found.reference, "variant": variants})
    Path("saved.yaml").write_text(text)
    assert recipes.parse(["--config", "saved.yaml"])[1:3] == (variants, config)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipe: plant.py\nheigth: 2", "saved.yaml: unknown setting 'heigth': did you mean 'height'"),
        ("recipe: plant.py\noptim: {lrr: 2}", "saved.yaml: unknown setting 'optim.lrr': did you mean 'optim.lr'"),
        ("recipe: plant.py\noptim: {lr: fast}", "saved.yaml: optim.lr is 'fast': expected a number"),
        ("recipe: plant.py\noptim: {lr: -1}", "saved.yaml: optim.lr is -1.0: it must be above 0"),
        ("recipe: plnt.py\nheight: 2", "plnt.py: no such recipe file"),
        ("height: 2", "saved.yaml names no recipe: give its NAME too"),
        ("recipe: plant.py\nvariant: smal", "unknown variant of plant 'smal': did you mean 'small'"),
    ],
)
def test_mistakes_in_a_saved_config(plant: Recipe, text: str, said: str) -> None:
    Path("saved.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        recipes.parse(["--config", "saved.yaml"])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_short_hand_written_file_keeps_the_rest(plant: Recipe) -> None:
    Path("saved.yaml").write_text("recipe: plant.py\nvariant: small tall\noptim:\n  lr: 1e-4\n")
    config = recipes.parse(["--config", "saved.yaml"])[2]
    assert (config.height, config.optim.lr, config.optim.clip) == (5, 1e-4, 1.0)


def test_variants_do_not_go_with_a_saved_config(plant: Recipe) -> None:
    Path("saved.yaml").write_text("recipe: plant.py")
    with pytest.raises(ConfigError, match="'small': variants do not go with --config"):
        recipes.parse(["plant.py", "small", "--config", "saved.yaml"])


# The run folder


def test_run_folders_count_up(plant: Recipe) -> None:
    for _ in range(2):
        start("plant.py", "small", "tall")
    start("plant.py", "small")
    start("plant.py")
    Path("runs/plant-7").mkdir()  # numbers that are gone are not given again
    Path("runs/plant-old").mkdir()
    start("plant.py", "--seed", "5")
    found = sorted(path.name for path in Path("runs").iterdir())
    small = ["plant-small-1", "plant-small-tall-1", "plant-small-tall-2"]
    assert found == ["plant-1", "plant-7", "plant-8", "plant-old", *small]
    assert metrics("runs/plant-small-tall-1")["height"] == 5 and metrics("runs/plant-8")["seed"] == 5


def test_a_number_that_another_run_just_took_is_passed_over(plant: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    start("plant.py")
    look = Path.glob
    with monkeypatch.context() as patch:  # it looked before the other run made its folder
        patch.setattr(Path, "glob", lambda self, pattern: iter(()) if self.name == "runs" else look(self, pattern))
        start("plant.py", "--seed", "1")
    assert [metrics(f"runs/plant-{number}")["seed"] for number in (1, 2)] == [0, 1]


def test_resume_takes_the_last_run(plant: Recipe) -> None:
    start("plant.py", "--resume")
    assert metrics("runs/plant-1")["resume"] is True
    start("plant.py")
    start("plant.py", "--resume")
    assert metrics("runs/plant-2")["resume"] is True and not Path("runs/plant-3").exists()
    with pytest.raises(RunFolderError, match=r"plant-2: cannot resume with other settings: seed was 0 and is now 4"):
        start("plant.py", "--seed", "4", "--resume")


def test_a_folder_by_name(plant: Recipe) -> None:
    start("plant.py", "--output_dir", "here/it/is")
    assert RunFolder.open("here/it/is").config["recipe"] == str(plant.path.resolve())
    with pytest.raises(RunFolderError, match="holds a run already"):
        start("plant.py", "--output_dir", "here/it/is")
    start("plant.py", "--output_dir", "here/it/is", "--overwrite", "--seed", "2")
    assert metrics("here/it/is")["seed"] == 2


def test_runs_that_cannot_be_made(plant: Recipe) -> None:
    Path("runs").write_text("a file")
    with pytest.raises(RunFolderError, match=r"cannot write here \((Not a directory|File exists)\)"):
        start("plant.py")


# Copies


def test_a_copy_runs(plant: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    written = recipes.copy("bert/pretrain", Path("mine"))
    assert [path.name for path in written] == ["pretrain.py", "README.md"]
    assert [path.name for path in recipes.copy("bert/finetune", Path("mine"))] == ["finetune.py"]
    copied, _, config, _ = recipes.parse(["mine/pretrain.py", "small"])
    assert copied.name == "pretrain" and config.model == recipes.find("bert/pretrain").configure(["small"]).model


def test_a_copy_overwrites_nothing(plant: Recipe) -> None:
    recipes.copy("plant.py", Path("mine"))
    Path("mine/plant.py").write_text("edited")
    with pytest.raises(RunFolderError, match=r"mine/plant.py is there already"):
        recipes.copy("plant.py", Path("mine"))
    Path("other").mkdir()
    Path("other/README.md").write_text("my own")
    with pytest.raises(RunFolderError, match=r"other/README.md is there already"):
        recipes.copy("bert/pretrain", Path("other"))
    assert [path.name for path in Path("other").iterdir()] == ["README.md"]
    assert Path("mine/plant.py").read_text() == "edited"
    with pytest.raises(RunFolderError, match="cannot write here"):
        recipes.copy("plant.py", Path("plant.py"))


# Several processes


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *words], capture_output=True, text=True, env=environment)


def test_two_processes_share_one_folder(plant: Recipe) -> None:
    source = SOURCE.replace(
        '    """Grow."""\n',
        '    """Grow."""\n    import os\n    from pathlib import Path\n'
        '    Path(f"rank-{os.environ[\'RANK\']}").write_text(f"{run.path} {run.is_main}")\n',
    )
    Path("plant.py").write_text(source)
    done = torchrun("-m", "hfcourse", "run", "plant.py", "small")
    assert done.returncode == 0, done.stderr
    assert Path("rank-0").read_text() == "runs/plant-small-1 True"
    assert Path("rank-1").read_text() == "runs/plant-small-1 False"
    assert metrics("runs/plant-small-1")["height"] == 2
    again = torchrun("plant.py", "--output_dir", "runs/plant-small-1")
    assert again.returncode != 0
    lines = [line for line in again.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "holds a run already" in lines[0]
