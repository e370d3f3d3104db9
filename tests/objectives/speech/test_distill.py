"""DistilHuBERT: loss against the paper's formula, a student that begins as its teacher, one that is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.engine.fit import fit
from hfcourse.engine.optim import parameter_groups
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.errors import ConfigError, ModelError
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec
from hfcourse.model import build
from hfcourse.objectives.speech.distill import Distill, spread_layers
from hfcourse.objectives.speech.settings import DistilHuBERT
from hfcourse.run_folder import RunFolder

from .waves_teacher import ToneTask, batch_of, losses, net

LENGTHS = {3: 1400, 8: 2000, 21: 900}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a HuBERT of four layers that is wider than the student."""
    folder = tmp_path_factory.mktemp("teacher")
    net("hubert", seed=7, num_hidden_layers=4, hidden_size=40).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a HuBERT of four layers as wide as the student."""
    folder = tmp_path_factory.mktemp("twin")
    net("hubert", seed=7, num_hidden_layers=4).save_pretrained(folder)
    return folder


def bound(model: Any, teacher: Path, **settings: Any) -> Distill:
    torch.manual_seed(1)
    objective = Distill(DistilHuBERT(teacher=str(teacher), **settings))
    objective.bind(model)
    return objective


def plain_loss(objective: Distill, model: Any, folder: Path, batch: dict[str, torch.Tensor]) -> float:
    """The paper's equation row by row: |h - h'|/D - lambda log sigma(cos(h, h')), mean over layers and states."""
    teacher = AutoModel.from_pretrained(folder).eval()
    model.eval()  # in training transformers masks what it is not told to leave
    terms = []
    for row, samples in enumerate(batch["sample_counts"].tolist()):
        sound = batch["input_values"][row : row + 1, :samples]
        with torch.no_grad():
            there = teacher(sound, output_hidden_states=True).hidden_states
            states = model(sound).last_hidden_state[0]
            foretold = [head(states).double().numpy() for head in objective.heads]
        for layer, drawn in zip(objective.layers, foretold, strict=True):
            for h, found in zip(there[layer][0].double().numpy(), drawn, strict=True):
                cosine = float(h @ found) / (math.sqrt(float(h @ h)) * math.sqrt(float(found @ found)))
                distance = float(np.abs(h - found).mean())
                terms.append(distance - objective.settings.cosine * math.log(1 / (1 + math.exp(-cosine))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("settings", "layers"), [({}, (2, 3, 4)), ({"layers": (1, 3), "cosine": 2.5}, (1, 3))])
def test_loss_equals_the_papers_formula(teacher: Path, settings: dict[str, Any], layers: tuple[int, ...]) -> None:
    model = net("hubert")
    objective = bound(model, teacher, **settings)
    assert objective.layers == layers and len(objective.teacher.encoder.layers) == layers[-1]
    batch = batch_of(objective, model.config, LENGTHS)
    loss = objective(model, batch, need_logits=False).losses["states"].item()
    assert loss == pytest.approx(plain_loss(objective, model, teacher, batch), abs=1e-5)
    assert objective.counts(batch) == {"states": int(batch["states"].sum())}


def test_rows_in_parts_weigh_as_one_batch(teacher: Path) -> None:
    model = net("hubert")
    objective = bound(model, teacher)
    whole = batch_of(objective, model.config, LENGTHS)
    parts = [batch_of(objective, model.config, {row: LENGTHS[row]}) for row in LENGTHS]
    counts = [objective.counts(part)["states"] for part in parts]
    found = [objective(model, part, need_logits=False).losses["states"] for part in parts]
    weighted = sum(count * value for count, value in zip(counts, found, strict=True)) / sum(counts)
    loss = objective(model, whole, need_logits=False).losses["states"]
    torch.testing.assert_close(weighted, loss, rtol=0, atol=1e-5)


def test_a_fresh_student_begins_with_the_teachers_lower_layers(twin: Path) -> None:
    """Its states are then those of the teacher's second layer."""
    model = net("hubert")
    objective = bound(model.eval(), twin)
    given = {"input_values": batch_of(objective, model.config, dict.fromkeys(LENGTHS, 1400))["input_values"]}
    with torch.no_grad():
        states = model(**given).last_hidden_state
        theirs = AutoModel.from_pretrained(twin).eval()(**given, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(states, theirs, rtol=0, atol=1e-6)
    # Bound again it keeps what it has learned since, and so does one that was loaded.
    for changed in (model, net("hubert")):
        changed.name_or_path = "" if changed is model else "runs/before"
        with torch.no_grad():
            changed.encoder.layer_norm.bias.fill_(0.25)
        bound(changed, twin)
        assert float(changed.encoder.layer_norm.bias.sum().detach()) == 8.0


def test_a_student_of_other_width_begins_with_what_fits(teacher: Path) -> None:
    model = net("hubert")
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bound(model, teacher)
    theirs = AutoModel.from_pretrained(teacher).state_dict()
    for name, tensor in model.state_dict().items():
        fits = theirs[name].shape == tensor.shape
        assert torch.equal(tensor, theirs[name] if fits else fresh[name]), name
        assert fits or "conv_layers" not in name


def test_the_teacher_neither_learns_nor_drops_out_and_is_in_no_checkpoint(twin: Path) -> None:
    model = net("hubert")
    objective = bound(model, twin)
    batch = batch_of(objective, model.config, LENGTHS)
    for module in (model, *objective.modules_to_train()):
        module.train()
    objective(model, batch, need_logits=False).losses["states"].backward()
    assert not objective.teacher.training
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    stepped = parameter_groups(model, objective.modules_to_train(), OptimConfig())
    theirs = {id(parameter) for parameter in objective.teacher.parameters()}
    assert not theirs & {id(parameter) for group in stepped for parameter in group["params"]}
    assert objective.modules_to_train() == [objective.heads]


def test_the_loss_falls(teacher: Path) -> None:
    model = net("hubert")
    objective = bound(model, teacher)
    found = losses(objective, model, batch_of(objective, model.config, dict.fromkeys(range(4), 1500)), steps=40)
    assert found[-1] < 0.7 * found[0]


def test_logs_and_collapse(twin: Path) -> None:
    model = net("hubert")
    objective = bound(model, twin)
    batch = batch_of(objective, model.config, LENGTHS)

    def means() -> dict[str, float]:
        output, number = objective(model, batch, need_logits=False), objective.counts(batch)["states"]
        return {name: float(total) / number for name, total in output.logs.items()}

    found = means()
    assert objective.collapse(found) == "" and -1 <= found["states/cosine"] <= 1
    loss = objective(model, batch, need_logits=False).losses["states"].item()
    assert found["states/distance"] < loss < found["states/distance"] + math.log(1 + math.e)
    for head in objective.heads:
        torch.nn.init.zeros_(head[2].weight)
    assert objective.collapse(means()).startswith("constant_states: ")


def test_a_run_goes_on_as_if_never_stopped(twin: Path, tmp_path: Path) -> None:
    """The teacher is loaded again; the student keeps what it has learned."""

    def learn(name: str, steps: int, resume: bool = False) -> RunFolder:
        model = net("hubert", hidden_dropout=0.1)
        train = TrainConfig(steps=steps, eval_every=2, log_every=1, precision="fp32", progress=False, select_best=False)
        optim = OptimConfig(lr=3e-3, schedule="constant", warmup=0)
        run = RunFolder.create(tmp_path / name, {"recipe": "toy"}, resume=resume)
        task = ToneTask(Distill(DistilHuBERT(teacher=str(twin))), model.config)
        fit(model, task, FitConfig(batch=BatchConfig(examples=8), optim=optim, train=train), run)
        return run

    whole, cut = learn("whole", 4), learn("cut", 2)
    (cut.path / "metrics.json").unlink()
    cut = learn("cut", 4, resume=True)
    for file in ("model.safetensors", "objective-0.safetensors"):
        a, b = (run.path / "checkpoint-4" / file for run in (whole, cut))
        assert a.read_bytes() == b.read_bytes(), file
    assert type(AutoModel.from_pretrained(whole.model_dir)).__name__ == "HubertModel"


def test_teachers_of_other_kinds(tmp_path: Path, teacher: Path) -> None:
    """A wav2vec 2.0 net, a backbone with a head of ours, a finished run's folder."""
    other = net("wav2vec2", seed=5)
    other.save_pretrained(tmp_path / "run" / "model")
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        assert bound(net("hubert"), folder).layers == (1, 2)
    head = HeadSpec(kind="frame", labels=("a", "b"), layers="mix")
    headed = HeadedModel(headed_config(other.config, (head,)), BackboneConfig())
    headed.save_pretrained(tmp_path / "headed")
    assert type(bound(net("hubert"), tmp_path / "headed").teacher).__name__ == "Wav2Vec2Model"


def test_what_teaches_nothing_is_refused(teacher: Path, tmp_path: Path) -> None:
    for name in ("", "distilhubert-tiny"):
        with pytest.raises(ConfigError, match=r"name a run folder, .* with --task\.method\.teacher"):
            DistilHuBERT(teacher=name).build()
    with pytest.raises(ModelError, match="no such folder"):
        bound(net("hubert"), tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="their convolutions must agree"):
        bound(net("hubert", conv_stride=[8, 4]), teacher)
    for layers in ((1, 5), (0, 1)):
        with pytest.raises(ConfigError, match=r"has 4 layers"):
            bound(net("hubert"), teacher, layers=layers)


def test_layers_are_spread_to_the_last() -> None:
    assert [spread_layers(count) for count in (12, 6, 4, 3, 2, 1)] == [
        (4, 8, 12), (2, 4, 6), (2, 3, 4), (1, 2, 3), (1, 2), (1,)
    ]  # fmt: skip


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_presets(size: str, tmp_path: Path) -> None:
    model = build(f"distilhubert-{size}", HeadSpec(kind="none"))
    build(f"data2vec-{size}", HeadSpec(kind="none")).save_pretrained(tmp_path)
    assert bound(model, tmp_path).layers == ((1, 2, 3) if size == "tiny" else (2, 4, 6))
    assert type(model).__name__ == "HubertModel" and len(model.encoder.layers) == 2
