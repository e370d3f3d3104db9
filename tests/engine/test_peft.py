"""Runs that train a part: small checkpoints, exact resuming, and a frozen backbone that runs once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfcourse import model as models
from hfcourse.engine.evaluate import predictions
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig
from hfcourse.engine.step import Steps
from hfcourse.errors import Interrupted, TrainingError
from hfcourse.peft_settings import LEARNING_RATES, PeftSettings
from hfcourse.run_folder import RunFolder

from .test_fit import new_run, untimed
from .toy import ToyTask, toy_config, toy_model


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """A "pretrained" model: the toy, trained on half of the work."""
    run = new_run(tmp_path / "pretrained")
    fit(toy_model(), ToyTask(), toy_config(train={"epochs": 6}), run)
    models.load(run.path).base_model.save_pretrained(tmp_path / "backbone")
    return str(tmp_path / "backbone")


def config_of(method: str, **changes: Any) -> FitConfig:
    config = toy_config(**({"optim": {"lr": 0.0}} | changes))
    return dataclasses.replace(config, peft=PeftSettings(method=method, rank=2))  # type: ignore[arg-type]


def build(backbone: str, config: FitConfig, task: type[ToyTask] = ToyTask) -> Any:
    return models.build(backbone, task.head, peft=config.peft, seed=config.seed)


@pytest.mark.parametrize("method", ["linear", "bitfit", "lora", "adalora", "pfeiffer", "prefix", "p_tuning"])
def test_a_run_learns_and_is_read_again(method: str, backbone: str, tmp_path: Path) -> None:
    run, task = new_run(tmp_path / "run"), ToyTask()
    config = config_of(method, train={"epochs": 12})
    scores = fit(build(backbone, config), task, config, run)
    log = [record for record in run.read_log() if "split" not in record]
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert max(record["lr"] for record in log) == pytest.approx(LEARNING_RATES[method], rel=0.1)  # the method's own
    assert scores.metrics["parameters"]["trained"] < scores.metrics["parameters"]["all"]
    again = predictions(models.load(run.path), task, "test", batch=BatchConfig())
    assert [a["prediction"] for a in again] == [a["prediction"] for a in run.read_predictions("test")]
    assert not (run.path / ".states.partial").exists()


def test_checkpoints_hold_what_is_trained(backbone: str, tmp_path: Path) -> None:
    run, config = new_run(tmp_path / "run"), config_of("lora")
    model = build(backbone, config)
    fit(model, ToyTask(), config, run)
    saved = load_file(run.checkpoints()[0] / "model.safetensors")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= saved.keys()
    assert not any(".base_layer." in name or ".original_module." in name for name in saved)


def interrupted_and_resumed(
    backbone: str, config: FitConfig, place: Path, monkeypatch: pytest.MonkeyPatch
) -> RunFolder:
    """A run that a signal stops after step 7, taken up again to its end."""
    broken, advance = new_run(place), Steps.advance

    def stopped(self: Steps, signal_received: int) -> int:
        return advance(self, signal_received) or (15 if self.state.position.step == 7 else 0)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Steps, "advance", stopped)
        fit(build(backbone, config), ToyTask(), config, broken)
    again = RunFolder.create(broken.path, broken.config, resume=True)
    fit(build(backbone, config), ToyTask(), config, again)
    return again


@pytest.mark.parametrize("method", ["lora", "pfeiffer", "linear", "prefix", "bitfit"])
def test_resumed_bit_for_bit(method: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(method, train={"save_every": 4})
    whole = new_run(tmp_path / "whole")
    fit(build(backbone, config), ToyTask(), config, whole)
    again = interrupted_and_resumed(backbone, config, tmp_path / "broken", monkeypatch)
    assert untimed(again) == untimed(whole)
    ours, theirs = (load_file(run.model_dir / "adapter_model.safetensors") for run in (again, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_adalora_starts_again_and_ends_alike(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of("adalora", train={"save_every": 4, "select_best": False})
    whole = new_run(tmp_path / "whole")
    model = build(backbone, config)
    fit(model, ToyTask(), config, whole)
    kept = model.peft_config["default"].rank_pattern
    assert sum(sum(ranks) for ranks in kept.values()) == 2 * len(kept)  # 3 each at first, 2 each on average at last
    again = interrupted_and_resumed(backbone, config, tmp_path / "broken", monkeypatch)
    assert untimed(again) == untimed(whole)


class FrameTask(ToyTask):
    """Which tokens are odd: a head on every state."""

    head = dataclasses.replace(ToyTask.head, kind="frame")

    def collate(self, rows: Any, *, epoch: int) -> Any:
        batch = super().collate(rows, epoch=epoch)
        ids = batch["input_ids"]
        return batch | {"labels": torch.where(ids == 0, -100, ids % 2)}

    def predict(self, logits: Any, batch: Any) -> Any:
        return [int(row[0].argmax()) for row in logits]


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (ToyTask, {}),
        (ToyTask, {"pooling": "mean"}),
        (ToyTask, {"pooling": "mean", "layers": "mix"}),
        (FrameTask, {}),
    ],
)
def test_a_frozen_backbone_runs_once(
    task: type[ToyTask], changes: dict[str, Any], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses, scores and weights as with the backbone in every step (no dropout)."""
    from hfcourse.engine import frozen

    monkeypatch.setattr(task, "head", dataclasses.replace(task.head, **changes))
    config = config_of("linear")
    runs = {}
    for name in ("once", "always"):
        model = build(backbone, config, task)
        backbone_of = models.unwrapped(model).base_model
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        rows: list[int] = []
        hook = backbone_of.encoder.layer[0].register_forward_pre_hook(
            lambda m, args, rows=rows: rows.append(len(args[0]))
        )
        if name == "always":
            monkeypatch.setattr(frozen, "frozen_backbone", lambda model: None)
        runs[name] = new_run(tmp_path / name)
        fit(model, task(), config, runs[name])
        hook.remove()
        assert "forward" not in backbone_of.__dict__
        if name == "once":
            assert sum(rows) == 96 + 53 + 31  # each example, once
        else:
            assert sum(rows) > 3 * 96
    for one, other in zip(runs["once"].read_log(), runs["always"].read_log(), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    assert runs["once"].read_predictions("test") == runs["always"].read_predictions("test")


def test_a_frozen_backbone_goes_on_where_the_disk_has_no_room(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    run = new_run(tmp_path / "run")
    fit(build(backbone, config_of("linear"), ToyTask), ToyTask(), config_of("linear"), run)
    assert run.finished and "runs in every epoch: the disk has 0.0 GiB" in capsys.readouterr().err


def test_nothing_is_kept_where_inputs_or_backbone_change(backbone: str, tmp_path: Path) -> None:
    class Masked(ToyTask):
        augments = True

    for number, (task, method) in enumerate(((Masked(), "linear"), (ToyTask(), "lora"))):
        config = config_of(method, train={"epochs": 2})
        model = build(backbone, config)
        rows: list[int] = []
        encoder = models.unwrapped(model).base_model.encoder
        encoder.layer[0].register_forward_pre_hook(lambda m, args, rows=rows: rows.append(len(args[0])))
        fit(model, task, config, new_run(tmp_path / str(number)))
        assert sum(rows) >= 2 * 96


def test_states_that_are_no_numbers_are_named(backbone: str, tmp_path: Path) -> None:
    config = config_of("linear")
    model = build(backbone, config)
    with torch.no_grad():
        models.unwrapped(model).bert.embeddings.word_embeddings.weight[7] = float("nan")
    task, run = ToyTask(), new_run(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"toy, train, row \d+: the backbone's states are nan or inf") as caught:
        fit(model, task, config, run)
    row = int(str(caught.value).split("row ")[1].split(":")[0]) - 1
    assert 7 in task.splits["train"].ids[row]  # type: ignore[attr-defined]
    assert not list(run.path.glob(".states*"))


def test_an_adapter_is_judged_as_it_is(backbone: str, tmp_path: Path) -> None:
    run, task, config = new_run(tmp_path / "run"), ToyTask(), config_of("pfeiffer")
    scores = fit(build(backbone, config), task, config, run)
    judged = models.build(str(run.path), ToyTask.head, need_trained_head=True)
    again = fit(judged, task, config, new_run(tmp_path / "judged"), train=False)
    assert again["test"] == scores["test"] and again.metrics["steps"] == 0
    with pytest.raises(TrainingError, match="no parameter of the model is trained"):
        fit(models.load(run.path), task, config, new_run(tmp_path / "frozen"))


def test_small_passes_where_little_is_trained(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hfcourse.engine import prepare

    model = build(backbone, config_of("lora"))
    for trained, expected in ((5, 4096), (500, 0)):
        monkeypatch.setattr(prepare, "parameter_counts", lambda model, n=trained: {"all": 1000, "trained": n})
        assert prepare._small_passes(model, "cpu") == expected
        assert prepare._small_passes(model, "cuda") == 0


def test_adalora_saves_the_ranks_that_were_judged(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the best weights are of an early step, before ranks were dropped."""
    scores = iter([0.9, *[0.1] * 40])
    task = ToyTask()
    monkeypatch.setattr(task, "score", lambda answers: {"accuracy": next(scores)})
    run, config = new_run(tmp_path / "run"), config_of("adalora", train={"epochs": 6})
    model = build(backbone, config)
    metrics = fit(model, task, config, run).metrics
    assert metrics["best_step"] < metrics["steps"]
    batch = task.collate(task.splits["test"].take(range(8)), epoch=0)
    with torch.no_grad():
        assert torch.equal(models.load(run.path).eval()(**batch).logits, model.eval()(**batch).logits)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_frozen_decoder_runs_once(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes that read the last token: all states are kept."""
    from tests.peft.tiny import make

    make(family).base_model.save_pretrained(tmp_path / "backbone")
    task, config = ToyTask(train=24, dev=8, test=8), config_of("linear", train={"epochs": 1})
    losses = []
    for name in ("once", "always"):
        from hfcourse.engine import frozen

        model = build(str(tmp_path / "backbone"), config)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        models.unwrapped(model).config.pad_token_id = 0
        for key in ("dropout", "attention_dropout", "activation_dropout"):
            for module in model.modules():
                if isinstance(getattr(module, key, None), float):
                    setattr(module, key, 0.0)
        if name == "always":
            monkeypatch.setattr(frozen, "frozen_backbone", lambda model: None)
        run = new_run(tmp_path / name)
        fit(model, task, config, run)
        losses.append([record["loss"] for record in run.read_log()])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
