"""Mockingjay, TERA, APC and VQ-APC: losses against loops in the test, alterations by hand, falling losses, collapse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hfcourse import model as models
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.nets import FramesConfig, FramesModel
from hfcourse.engine.evaluate import evaluate
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.engine.step import Steps
from hfcourse.errors import ConfigError, TrainingError
from hfcourse.heads.spec import HeadSpec
from hfcourse.objectives.speech.autoregressive import Autoregressive
from hfcourse.objectives.speech.base import Draws, SpeechObjective, keep_samples_constant
from hfcourse.objectives.speech.masked_frames import MaskedFrames, corrupted
from hfcourse.objectives.speech.settings import APC, Mockingjay, Tera, VqApc
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.sound import context_of
from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig
from tests import sounds

METHODS: dict[str, tuple[Any, str]] = {
    "mockingjay": (Mockingjay(), "transformer"),
    "tera": (Tera(), "transformer"),
    "apc": (APC(), "gru"),
    "vq_apc": (VqApc(codes=16), "gru"),
}


def net(kind: str) -> FramesModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return FramesModel(FramesConfig(layers=kind, mels=12, stack=2, hidden_dropout_prob=0.0, **sizes))


def batch_of(
    objective: SpeechObjective, counts: tuple[int, ...] = (9000, 6000), epoch: int = 0
) -> dict[str, torch.Tensor]:
    """Waves of these lengths as a batch, with what the objective draws."""
    waves = torch.zeros(len(counts), max(counts))
    for row, count in enumerate(counts):
        waves[row, :count] = torch.from_numpy(sounds.tone(300 + 200 * row, count / sounds.RATE, seed=row))
    sample_counts = torch.tensor(counts)
    states = ((sample_counts - 400) // 160 + 1) // 2
    draws = Draws(0, 0, np.arange(len(counts)))
    drawn = {name: torch.from_numpy(values) for name, values in objective.draw(states.numpy(), draws).items()}
    mask = (torch.arange(max(counts)) < sample_counts[:, None]).long()
    return {"input_values": waves, "attention_mask": mask, "sample_counts": sample_counts, "states": states, **drawn}


def test_apc_against_a_loop() -> None:
    model, objective = net("gru"), Autoregressive(APC(ahead=3))
    objective.bind(model)
    batch = batch_of(objective)
    output = objective(model.eval(), batch, need_logits=False)
    frames, counts = model.features(batch["input_values"], batch["attention_mask"])
    states = model(batch["input_values"], batch["attention_mask"]).last_hidden_state
    errors = []
    for row, count in enumerate(counts.tolist()):  # type: ignore[union-attr]
        for at in range(count - 3):
            foretold = objective.projection(states[row, at])
            errors.append((foretold - frames[row, at + 3]).abs().mean())
    assert output.losses["frames"].item() == pytest.approx(torch.stack(errors).mean().item(), abs=1e-6)
    assert objective.counts(batch) == {"frames": len(errors)}


@pytest.mark.parametrize("settings", [Mockingjay(), Tera(channels=0.0, magnitude=0.0)])
def test_masked_frames_against_a_loop(settings: Mockingjay) -> None:
    model, objective = net("transformer"), MaskedFrames(settings)
    objective.bind(model)
    batch = batch_of(objective)
    output = objective(model.eval(), batch, need_logits=False)
    frames, counts = model.features(batch["input_values"], batch["attention_mask"])
    heard = frames.clone()
    for row, action in enumerate(batch["action"].tolist()):
        for at in batch["frame_mask"][row].nonzero().flatten().tolist():
            other = frames[row, batch["elsewhere"][row, at]]
            heard[row, at] = frames[row, at] if action < 0.1 else other if action < 0.2 else 0
    drawn = objective.head_module(model(features=heard, counts=counts).last_hidden_state)
    where = batch["frame_mask"].nonzero().tolist()
    errors = torch.stack([(drawn[row, at] - frames[row, at]).abs().mean() for row, at in where])
    assert output.losses["frames"].item() == pytest.approx(errors.mean().item(), abs=1e-6)
    assert objective.counts(batch) == {"frames": len(where) * frames.shape[2]}
    inside = batch["states"][batch["frame_mask"].nonzero()[:, 0]]
    assert (batch["frame_mask"].nonzero()[:, 1] < inside).all()


def test_tera_is_judged_on_blanked_channels_everywhere() -> None:
    model, objective = net("transformer"), MaskedFrames(Tera(channels=0.5, magnitude=0.0))
    objective.bind(model)
    batch = batch_of(objective)
    output = objective(model.eval(), batch, need_logits=False)
    frames, counts = model.features(batch["input_values"], batch["attention_mask"])
    heard = corrupted(frames, batch["frame_mask"], batch, mels=model.config.mels)
    drawn = objective.head_module(model(features=heard, counts=counts).last_hidden_state)
    errors = []
    for row, count in enumerate(counts.tolist()):  # type: ignore[union-attr]
        first, last = batch["blanked"][row].tolist()
        for at in range(count):
            for channel in range(frames.shape[2]):
                blank = first <= channel % model.config.mels / model.config.mels < last
                if blank or batch["frame_mask"][row, at]:
                    errors.append((drawn[row, at, channel] - frames[row, at, channel]).abs())
    assert output.losses["frames"].item() == pytest.approx(torch.stack(errors).mean().item(), abs=1e-6)
    assert objective.counts(batch) == {"frames": len(errors)}
    assert len(errors) > batch["frame_mask"].sum() * frames.shape[2]


def test_alterations_by_hand() -> None:
    frames = torch.arange(1.0, 25.0).view(1, 3, 8)  # 4 channels, two frames a state
    mask = torch.tensor([[False, True, False]])
    still = {"elsewhere": torch.tensor([[0, 2, 0]])}
    for action, expected in ((0.05, frames[0, 1]), (0.15, frames[0, 2]), (0.5, torch.zeros(8))):
        found = corrupted(frames, mask, {"action": torch.tensor([action]), **still}, mels=4)
        assert torch.equal(found[0, 1], expected) and torch.equal(found[0, [0, 2]], frames[0, [0, 2]])
    band = {"action": torch.tensor([0.05]), "blanked": torch.tensor([[0.25, 0.75]]), **still}
    found = corrupted(frames, mask, band, mels=4)
    assert not found[..., [1, 2, 5, 6]].any() and torch.equal(found[..., [0, 3, 4, 7]], frames[..., [0, 3, 4, 7]])
    torch.manual_seed(0)
    loud = corrupted(torch.zeros(2, 50, 8), torch.zeros(2, 50, dtype=torch.bool),
                     {"action": torch.tensor([0.5, 0.5]), "noise": torch.tensor([0.0, 0.2]),
                      "elsewhere": torch.zeros(2, 50, dtype=torch.long)}, mels=4)  # fmt: skip
    assert not loud[0].any() and loud[1].std().item() == pytest.approx(0.2, rel=0.1)


def test_tera_draws_as_the_paper_has_it() -> None:
    objective = MaskedFrames(Tera())
    drawn = objective.draw(np.full(2000, 30), Draws(0, 0, np.arange(2000)))
    widths = drawn["blanked"][:, 1] - drawn["blanked"][:, 0]
    assert widths.min() >= 0 and widths.max() <= 0.2 and widths.mean() == pytest.approx(0.1, abs=0.01)
    assert drawn["blanked"].min() >= 0 and drawn["blanked"].max() <= 1
    assert (drawn["noise"] > 0).mean() == pytest.approx(0.15, abs=0.02)
    assert drawn["frame_mask"].mean() == pytest.approx(0.15, abs=0.1)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_is_its_rows(name: str) -> None:
    """A step cut into forward passes weighs as a whole one; padding changes nothing."""
    settings, kind = METHODS[name]
    model, objective = net(kind).eval(), settings.build()
    objective.bind(model)
    for module in objective.modules_to_train():
        module.eval()
    whole = batch_of(objective)
    whole.pop("noise", None)  # drawn on the device, by place
    loss = objective(model, whole, need_logits=False).losses["frames"].item()
    parts, counts = [], []
    for row, count in enumerate(whole["sample_counts"].tolist()):
        states = int(whole["states"][row])
        part = {key: value[row : row + 1] for key, value in whole.items() if key != "attention_mask"}
        part["input_values"] = part["input_values"][:, :count]
        part |= {key: part[key][:, :states] for key in ("frame_mask", "elsewhere") if key in part}
        parts.append(objective(model, part, need_logits=False).losses["frames"].item())
        counts.append(objective.counts(part)["frames"])
    assert loss == pytest.approx(np.average(parts, weights=counts), abs=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.write(tmp_path_factory.mktemp("sounds"), {"train": 32, "dev": 8})


def start(name: str, data: Path, place: Path, *, steps: int = 40, lr: float = 5e-3) -> tuple[Any, Any, Any, RunFolder]:
    settings, kind = METHODS[name]
    torch.manual_seed(0)
    task = SpeechPretrainingConfig(data=str(data), method=settings).build(context_of("fbank", BackboneConfig()))
    object.__setattr__(task.context, "backbone", net(kind).config)
    config = FitConfig(
        batch=BatchConfig(examples=8),
        optim=OptimConfig(lr=lr),
        train=TrainConfig(steps=steps, eval_every=steps, log_every=5, progress=False, precision="fp32"),
    )
    return net(kind), task, config, RunFolder.create(place, {"recipe": "test"})


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls(name: str, data: Path, tmp_path: Path) -> None:
    model, task, config, run = start(name, data, tmp_path / "run")
    scores = fit(model, task, config, run)
    log = [record for record in run.read_log() if "lr" in record]
    share = 0.95 if name == "vq_apc" else 0.75  # sixteen codes say little
    assert log[-1]["loss"] < share * log[0]["loss"] and scores["dev"]["loss"] < share * log[0]["loss"]
    assert log[0]["audio_seconds"] > 0 and "frames/spread" in log[-1]
    assert isinstance(models.load(run.path), FramesModel)


@pytest.mark.parametrize("name", ["vq_apc", "tera"])
def test_a_net_is_judged_the_same_twice(name: str, data: Path, tmp_path: Path) -> None:
    model, task, config, _ = start(name, data, tmp_path / "run")
    objective = task.objective
    objective.bind(model)
    first, second = (evaluate(model, task, "train", batch=config.batch, objective=objective) for _ in range(2))
    assert first.scores == second.scores
    assert model.training and all(module.training for module in objective.modules_to_train())


def test_a_collapse_stops_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task, config, run = start("apc", data, tmp_path / "run", steps=60, lr=0.0001)
    monkeypatch.setattr("hfcourse.engine.step._GRACE", 10)
    monkeypatch.setattr(Steps, "_clip", lambda self: _still(self))
    with pytest.raises(TrainingError, match=r"step 35: constant_frames: .* varies by 0.0000 .*lower --optim.lr"):
        fit(model, task, config, run)


def _still(steps: Any) -> torch.Tensor:
    """What only the mean frame is drawn by: a projection of nothing."""
    with torch.no_grad():
        for parameter in steps.state.extra[0].parameters():
            parameter.zero_()
            parameter.grad = None
    return torch.zeros(())


def test_a_backbone_that_hears_the_future_is_refused() -> None:
    with pytest.raises(ConfigError, match="take gru or causal layers"):
        Autoregressive(APC()).bind(net("transformer"))


def test_nets_that_hear_otherwise_are_refused() -> None:
    waves = models.build("hubert-tiny", HeadSpec(kind="none"))
    for method in (Mockingjay(), Tera()):
        with pytest.raises(ConfigError, match=f"{method.kind} masks frames of filterbanks: take {method.kind}-tiny"):
            method.build().bind(waves)
    with pytest.raises(ConfigError, match="take gru or causal layers"):
        APC().build().bind(waves)
    with pytest.raises(ConfigError, match="has no convolutions on samples, so that no method here pretrains it"):
        keep_samples_constant(net("gru"))
