"""Settings: from words and from YAML, with the same answers and the same refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
import yaml

from hfcourse.config import commented_yaml, field_help, from_dict, override, read_yaml, to_dict
from hfcourse.engine.settings import FitConfig
from hfcourse.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Cat:
    """One kind of part."""

    kind: ClassVar[str] = "cat"
    lives: int = 9
    """How often it may fall."""


@dataclass(frozen=True, kw_only=True)
class Dog:
    """Another kind."""

    kind: ClassVar[str] = "dog"
    tricks: tuple[str, ...] = ("sit",)
    weight: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class Door:
    """A part with a setting that happens to be called `kind`."""

    kind: Literal["sliding", "swing"] = "swing"


@dataclass(frozen=True, kw_only=True)
class Home:
    """Every type a setting can have."""

    street: str = "main"
    """Where it stands."""
    rooms: int = 3
    rent: float | None = None
    garden: bool = False
    lift: bool | None = None
    roof: Literal["flat", "steep"] = "flat"
    """Its shape."""
    size: tuple[float, float] = (0.5, 2.0)
    colours: tuple[Literal["red", "blue"], ...] = ()
    animal: Cat | Dog = field(default_factory=Cat)
    second: Dog | None = None
    door: Door = field(default_factory=Door)

    def __post_init__(self) -> None:
        if self.rooms < 1:
            raise ConfigError(f"rooms is {self.rooms}: it must be 1 or more")


FULL = Home(
    street="a: b # c\nd",
    rooms=7,
    rent=1e-5,
    garden=True,
    lift=False,
    roof="steep",
    size=(1e-20, 3e20),
    colours=("blue", "red"),
    animal=Dog(tricks=("roll, over", "no", "1e3", "", "ü"), weight=3e-5),
    second=Dog(tricks=()),
    door=Door(kind="sliding"),
)


@pytest.mark.parametrize("config", [Home(), FULL, Home(street="none of it"), Home(street="...")])
def test_yaml_gives_back_what_it_was_given(config: Home) -> None:
    for text in (yaml.safe_dump(to_dict(config)), commented_yaml(config)):
        assert from_dict(Home, read_yaml(text, "f")) == config
    assert to_dict(FULL)["animal"]["kind"] == "dog"


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "0.0001", "'1e-4'", "1E-4"])
def test_floats_as_people_write_them_in_yaml(written: str) -> None:
    assert from_dict(Home, read_yaml(f"rent: {written}", "f")).rent == 1e-4


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--rent", "3e-4"], "rent", 3e-4),
        (["--rent=-3"], "rent", -3.0),
        (["--rent", "-3"], "rent", -3.0),
        (["--rent", "none"], "rent", None),
        (["--rooms", "1e3"], "rooms", 1000),
        (["--garden"], "garden", True),
        (["--garden", "false"], "garden", False),
        (["--no-garden"], "garden", False),
        (["--lift"], "lift", True),
        (["--no-lift"], "lift", False),
        (["--lift", "none"], "lift", None),
        (["--street", "5"], "street", "5"),
        (["--street=--x"], "street", "--x"),
        (["--street="], "street", ""),
        (["--size", "1", "2"], "size", (1.0, 2.0)),
        (["--size", "1,2"], "size", (1.0, 2.0)),
        (["--size=1, 2"], "size", (1.0, 2.0)),
        (["--colours", "red", "blue"], "colours", ("red", "blue")),
        (["--colours="], "colours", ()),
        (["--rooms", "4", "--rooms", "5"], "rooms", 5),
        (["--animal.lives", "2"], "animal", Cat(lives=2)),
    ],
)
def test_words_become_values_of_the_right_type(words: list[str], name: str, value: object) -> None:
    changed = getattr(override(Home(), words), name)
    assert changed == value and type(changed) is type(value)


def test_a_part_of_several_types_takes_another_kind() -> None:
    changed = override(Home(), ["--animal", "dog", "--animal.weight", "3"])
    assert changed.animal == Dog(weight=3.0) and override(FULL, ["--animal=dog"]).animal == FULL.animal
    with pytest.raises(ConfigError, match="unknown value of --animal 'dgo': did you mean 'dog'"):
        override(Home(), ["--animal", "dgo"])
    with pytest.raises(ConfigError, match="--animal takes one of cat, dog"):
        override(Home(), ["--animal"])


def test_an_override_leaves_the_rest_as_it_is() -> None:
    changed = override(FULL, ["--animal.weight", "2", "--rooms", "8"])
    assert changed.animal == Dog(tricks=FULL.animal.tricks, weight=2.0)  # type: ignore[union-attr]
    assert (changed.rooms, changed.street, changed.second) == (8, FULL.street, FULL.second)
    assert FULL.rooms == 7


def test_both_spellings_of_a_name() -> None:
    one, other = (override(FitConfig(), [f"--optim.{name}", "2e-3"]) for name in ("head_lr", "head-lr"))
    assert one == other and one.optim.head_lr == 2e-3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optim.lrr", "1"], "unknown setting '--optim.lrr': did you mean '--optim.lr'"),
        (["--lr", "1"], "unknown setting '--lr': did you mean '--optim.lr'"),
        (["--learning-rate-of-the-model", "1"], "`hfcourse show NAME` prints every setting"),
        (["--optim", "1"], "unknown setting '--optim'"),
        (["--outputdir", "x"], "did you mean '--output_dir'"),
        (["--optim.lr"], "--optim.lr needs a value (a number)"),
        (["--optim.lr", "fast"], "--optim.lr is 'fast': expected a number"),
        (["--optim.lr", "nan"], "--optim.lr is 'nan': expected a number"),
        (["--optim.lr", "inf"], "--optim.lr is 'inf': expected a number"),
        (["--seed", "1.5"], "--seed is '1.5': expected a whole number"),
        (["--seed", "1e999"], "--seed is '1e999': expected a whole number"),
        (["--strict", "maybe"], "--strict is 'maybe': expected true or false"),
        (["--no-strict", "true"], "--no_strict takes no value"),
        (["--no-seed", "3"], "unknown setting '--no_seed'"),
        (["--optim.betas", "0.9"], "--optim.betas is ['0.9']: expected 2 values, each a number"),
        (["--optim.schedule", "cosin"], "unknown value of --optim.schedule 'cosin': did you mean 'cosine'"),
        (["--train.trackers", "wandb,tensorbord"], "'tensorbord': did you mean 'tensorboard'"),
        (["--seed", "1", "debug"], "'debug' after --seed 1 is out of place: variants come before --settings"),
        (["debug"], "'debug' is out of place"),
        (["--optim.lr", "-1"], "optim.lr is -1.0: it must be above 0"),
    ],
)
def test_mistakes_on_the_command_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(FitConfig(), words, others=("output_dir",))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("roomes: 4", "home.yaml: unknown setting 'roomes': did you mean 'rooms'"),
        ("animal: {kind: cat, live: 3}", "home.yaml: unknown setting 'animal.live': did you mean 'animal.lives'"),
        ("animal: {kind: cta}", "home.yaml: unknown animal.kind 'cta': did you mean 'cat'"),
        ("animal: {lives: 3}", "home.yaml: unknown animal.kind 'None': choose one of cat, dog"),
        ("animal: cat", "home.yaml: animal is 'cat': expected a part"),
        ("second: {kind: cat}", "home.yaml: second.kind is 'cat': this part is 'dog'"),
        ("rooms: many", "home.yaml: rooms is 'many': expected a whole number"),
        ("rooms: 2.5", "home.yaml: rooms is 2.5: expected a whole number"),
        ("rooms: [1]", "home.yaml: rooms is [1]: expected a whole number"),
        ("rooms: true", "home.yaml: rooms is True: expected a whole number"),
        ("rooms:", "home.yaml: rooms is None: expected a whole number"),
        ("rent: {a: 1}", "home.yaml: rent is {'a': 1}: expected a number or none"),
        ("rent: .nan", "home.yaml: rent is nan: expected a number or none"),
        ("garden: 2", "home.yaml: garden is 2: expected true or false"),
        ("street: [a]", "home.yaml: street is ['a']: expected text"),
        ("size: [1, 2, 3]", "home.yaml: size is [1, 2, 3]: expected 2 values, each a number"),
        ("colours: [red, bleu]", "home.yaml: unknown value of colours 'bleu': did you mean 'blue'"),
        ("rooms: 0", "home.yaml: rooms is 0: it must be 1 or more"),
        ("rooms: 1\nrooms: 2", "home.yaml, line 2: not YAML (the key 'rooms' is there twice)"),
        ("rooms: [", "home.yaml, line 1: not YAML"),
        ("a\x00b", "home.yaml: not YAML"),
        ("- rooms", "home.yaml: expected `key: value` lines"),
        ("", "home.yaml: expected `key: value` lines"),
    ],
)
def test_mistakes_in_a_file(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Home, read_yaml(text, "home.yaml"), where="home.yaml")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_setting_without_a_default_is_missed() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Needy:
        must: int

    with pytest.raises(ConfigError, match=r"part\.must is missing"):
        from_dict(Needy, {}, prefix="part.")


def test_help_stands_above_each_setting_with_its_choices() -> None:
    lines = commented_yaml(Home(), {"recipe": "x", "variant": ["a", "b"]}).splitlines()
    assert lines[:4] == ["recipe: x", "variant: [a, b]", "# Where it stands.", "street: main"]
    assert lines[lines.index("roof: flat") - 1] == "# Its shape. [flat | steep]"
    assert lines[lines.index("  lives: 9") - 1] == "  # How often it may fall."
    assert lines[lines.index("  lives: 9") - 2] == "  kind: cat"


def test_help_is_inherited() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Child(FitConfig):
        more: int = 0
        """Its own."""

    assert field_help(Child)["more"] == "Its own."
    assert field_help(Child)["seed"] == field_help(FitConfig)["seed"] != ""


@dataclass(frozen=True, kw_only=True)
class Village:
    """Lends a part a name of its own."""

    aliases: ClassVar = {"inn": "home"}
    home: Home = field(default_factory=Home)


def test_a_lent_name_stands_for_its_part_also_where_it_is_negated() -> None:
    assert override(Village(), ["--inn.rooms", "7"]).home.rooms == 7
    garden = Village(home=Home(garden=True))
    assert override(garden, ["--no-inn.garden"]) == override(garden, ["--no-home.garden"]) == Village()
    with pytest.raises(ConfigError, match=r"unknown setting '--no_home\.roms'"):
        override(garden, ["--no-inn.roms"])
