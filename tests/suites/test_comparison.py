"""A comparison's runs, and its numbers worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hfcourse.errors import Interrupted, ModelError, TrainingError
from hfcourse.peft_settings import PeftSettings
from hfcourse.run_folder import RunFolder
from hfcourse.suites.comparison import Design, Trial, compare, refusals, saved_bytes
from hfcourse.suites.runner import Learner
from tests.peft.tiny import make

FACTS = {"model": "m", "task": "t", "train_rows": 100, "parameters": 1000, "steps": 10, "batch": 4}
DESIGN = Design(
    methods=("full", "lora", "bitfit"),
    seeds=(0, 1, 2),
    curve_methods=("lora",),
    sizes=(8,),
    refused={"bitfit": "it has no biases"},
    facts=FACTS,
)


@dataclass(frozen=True)
class Optim:
    lr: float = 0.1


@dataclass(frozen=True)
class Settings:
    method: str
    seed: int
    examples: int
    optim: Optim = field(default_factory=Optim)


class Fake:
    """Runs without training, whose costs and scores are known."""

    def __init__(self, failures: dict[str, list[BaseException]] | None = None) -> None:
        self.failures = failures or {}
        self.learned: list[str] = []

    @property
    def learner(self) -> Learner:
        return Learner(recipe="fake", settings=Settings, learn=self.learn)

    def learn(self, settings: Settings, run: RunFolder) -> None:
        if run.finished:
            return
        name = run.path.name
        self.learned.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        full, seed = settings.method == "full", settings.seed
        score = 0.5 + 0.1 * seed - (0.2 if settings.examples else 0.0)
        run.model_dir.mkdir()
        (run.model_dir / "adapter_model.safetensors").write_bytes(b"x" * (4000 if full else 40))
        (run.model_dir / "tokenizer.json").write_bytes(b"x" * 999)
        metrics: dict[str, Any] = {
            "score": {"name": "accuracy", "split": "test", "value": score},
            "scores": {"dev": {"accuracy": 2 * score, "loss": 9.0}, "test": {"accuracy": score, "loss": 9.0}},
            "parameters": {"all": 1000, "trained": 1000 if full else 10},
            "training_memory_bytes": (500, 100, 1200)[seed],
            "wall_seconds": (3.0, 5.0, 100.0)[seed],
            "steps": 10,
            "step_seconds": (2.0 if full else 1.0) * (1 + seed),
            "hardware": {"gpus": [], "cpu": "a cpu", "threads": 1},
            "precision": "no",
        }
        run.write_json("metrics.json", metrics)


def folder(place: Path, **how: Any) -> RunFolder:
    return RunFolder.create(place, {"recipe": "peft/compare"}, **how)


def test_trials_are_named_by_what_varies_and_leave_out_what_is_refused() -> None:
    names = [trial.name for trial in replace(DESIGN, seeds=(3, 4)).trials]
    assert names == ["full-seed3", "full-seed4", "lora-seed3", "lora-seed4", "lora-8-seed3", "lora-8-seed4"]
    assert Trial("lora", 3, 8).group == "lora-8"


def test_numbers_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(tmp_path / "compare")
    compare(DESIGN, Fake().learner, run, isolate=False)
    found = run.read_json("compare.json")
    lora, full = found["methods"]["lora"], found["methods"]["full"]
    # Seeds score 0.5, 0.6, 0.7: mean 0.6, sd sqrt((0.01 + 0 + 0.01) / 2) = 0.1; costs are medians of the seeds.
    assert lora["scores"]["test"]["mean"] == pytest.approx(0.6) and lora["scores"]["test"]["sd"] == pytest.approx(0.1)
    assert lora["scores"]["dev"]["mean"] == pytest.approx(1.2)
    assert (lora["trained"], lora["saved_bytes"], lora["memory_bytes"], lora["seconds"]) == (10, 40, 500, 5.0)
    assert lora["step_seconds"] == pytest.approx(0.2) and full["step_seconds"] == pytest.approx(0.4)
    assert lora["step_ratio"] == pytest.approx(0.5) and full["step_ratio"] == 1.0
    assert lora["lr"] == 0.1 and lora["runs"] == ["lora-seed0", "lora-seed1", "lora-seed2"]
    (few, every) = found["curves"]["lora"]
    assert (few["examples"], every["examples"]) == (8, 100)
    assert few["mean"] == pytest.approx(0.4) and every["mean"] == pytest.approx(0.6)
    assert found["refused"] == {"bitfit": "it has no biases"} and found["seconds"] == pytest.approx(3 * 108.0)
    assert run.finished and "bitfit cannot take this model: it has no biases" in capsys.readouterr().out


def test_without_full_steps_are_compared_with_nothing(tmp_path: Path) -> None:
    run = folder(tmp_path / "compare")
    compare(replace(DESIGN, methods=("lora",), seeds=(0,), curve_methods=()), Fake().learner, run, isolate=False)
    found = run.read_json("compare.json")
    assert found["methods"]["lora"]["step_ratio"] is None and not found["curves"]
    assert found["methods"]["lora"]["scores"]["test"]["sd"] is None


def test_a_failed_run_loses_no_other_and_is_named(tmp_path: Path) -> None:
    fake = Fake({"lora-seed1": [ModelError("no such attention"), RuntimeError("cosmic ray")]})
    run = folder(tmp_path / "compare")
    with pytest.raises(TrainingError, match=r"lora-seed1 failed twice: RuntimeError: cosmic ray; the finished runs"):
        compare(DESIGN, fake.learner, run, isolate=False)
    found = run.read_json("compare.json")
    assert found["methods"]["lora"]["runs"] == ["lora-seed0", "lora-seed2"] and not run.finished
    assert "| lora-seed1 | failed |" in (run.path / "table.md").read_text()
    # The next time it alone is tried.
    again = Fake()
    compare(DESIGN, again.learner, folder(run.path, resume=True), isolate=False)
    assert again.learned == ["lora-seed1"] and run.finished


def test_a_stopped_comparison_goes_on(tmp_path: Path) -> None:
    fake = Fake({"lora-seed0": [Interrupted("stopped", 15)]})
    with pytest.raises(Interrupted):
        compare(DESIGN, fake.learner, folder(tmp_path / "compare"), isolate=False)
    again = Fake()
    compare(DESIGN, again.learner, folder(tmp_path / "compare", resume=True), isolate=False)
    assert not {"full-seed0", "full-seed1", "full-seed2"} & {*again.learned} and "lora-seed0" in again.learned


def test_what_a_backbone_cannot_take_is_found_without_changing_it() -> None:
    model = make("modernbert")
    names = [name for name, _ in model.named_parameters()]
    wanted = {method: PeftSettings(method=method) for method in ("full", "bitfit", "lora", "ln")}
    refused = refusals(model, wanted)
    assert refused.keys() == {"bitfit"} and refused["bitfit"].startswith("bitfit trains biases, and this modernbert")
    assert [name for name, _ in model.named_parameters()] == names
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_saved_weights_leave_out_a_backbone_beside_them(tmp_path: Path) -> None:
    (tmp_path / "backbone").mkdir()
    for name, size in {"adapter_model.safetensors": 7, "backbone/model.safetensors": 500, "tokenizer.json": 50}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    assert saved_bytes(tmp_path) == 7
