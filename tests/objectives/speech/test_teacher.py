"""data2vec: loss against a plain reference, a teacher that follows by hand-worked steps and is kept whole."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.engine.fit import fit
from hfcourse.engine.optim import parameter_groups
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.engine.state import tensors_of
from hfcourse.errors import ConfigError, Interrupted
from hfcourse.heads.spec import HeadSpec
from hfcourse.model import build
from hfcourse.objectives.speech.settings import Data2Vec
from hfcourse.objectives.speech.teacher import SlowLayers, Teacher, directions
from hfcourse.run_folder import RunFolder

from .waves_teacher import ToneTask, batch_of, losses, net

LENGTHS = {3: 1400, 8: 2000, 21: 900}


def bound(model: Any, **settings: Any) -> Teacher:
    torch.manual_seed(1)
    objective = Teacher(Data2Vec(**settings))
    objective.bind(model)
    return objective


def moved(objective: Teacher) -> None:
    """Make the teacher another net than the student."""
    generator = torch.Generator().manual_seed(2)
    for module in filter(None, (objective.teacher, objective.front)):
        for tensor in module.buffers():
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator)


def plain_loss(
    objective: Teacher, model: Any, batch: dict[str, torch.Tensor], upper: int, *, masked_ones: bool = True
) -> torch.Tensor:
    """Row by row without padding: transformers' own class with the teacher's weights gives the MLPs' outputs."""
    teacher = copy.deepcopy(model).eval()
    weights = {f"encoder.{name}": tensor for name, tensor in objective.teacher.named_buffers()}
    if objective.front is not None:
        there = {"convolutions": "feature_extractor", "projection": "feature_projection"}
        there["positions"] = "encoder.pos_conv_embed"
        for name, tensor in objective.front.named_buffers():
            part, _, rest = name.partition(".")
            weights[f"{there[part]}.{rest}"] = tensor
    teacher.load_state_dict(weights, strict=False)
    fed: list[torch.Tensor] = []
    for layer in teacher.encoder.layers:
        layer.feed_forward.register_forward_hook(lambda *given: fed.append(given[2]))
    errors = []
    for row, samples in enumerate(batch["sample_counts"].tolist()):
        sound, count = batch["input_values"][row : row + 1, :samples], int(batch["states"][row])
        masked = batch["masked"][row : row + 1, :count]
        fed.clear()
        with torch.no_grad():
            teacher(sound)
        target = torch.stack([F.instance_norm(one.transpose(1, 2)) for one in fed[-upper:]]).mean(dim=0)
        states = model(sound, mask_time_indices=masked).last_hidden_state
        foretold = states @ objective.head_module.weight.T + objective.head_module.bias
        errors.append((foretold - target.transpose(1, 2))[masked if masked_ones else ~masked].square())
    return torch.cat(errors).mean()


@pytest.mark.parametrize(
    ("upper", "positions", "slow"), [(1, 1, "layers"), (2, 1, "layers"), (2, 3, "layers"), (2, 1, "all"), (2, 3, "all")]
)
def test_loss_and_gradients_equal_a_plain_reference(upper: int, positions: int, slow: str) -> None:
    """Neither padding nor what is left out of the last layer changes anything, however positions are told."""
    model = net("data2vec-audio", num_conv_pos_embeddings=positions)
    objective = bound(model, layers=upper, span=4, slow=slow, unmasked=0.0)
    moved(objective)
    batch = batch_of(objective, model.config, LENGTHS)
    seen: list[int] = []
    last = model.encoder.layers[-1].feed_forward
    hook = last.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:-1].numel()))
    ours = objective(model, batch, need_logits=False)
    hook.remove()
    assert seen == [int(batch["masked"].sum())]
    ours.losses["states"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected = plain_loss(objective, model, batch, upper)
    expected.backward()
    torch.testing.assert_close(ours.losses["states"], expected, rtol=0, atol=1e-5)
    assert len(gradients) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name)
    assert all(tensor.grad is None for tensor in objective.teacher.buffers())


def test_states_that_are_not_masked_are_foretold_too() -> None:
    model = net("data2vec-audio")
    objective = bound(model, layers=2, unmasked=0.5)
    moved(objective)
    batch = batch_of(objective, model.config, LENGTHS)
    losses = objective(model, batch, need_logits=False).losses
    for name, masked_ones in (("states", True), ("unmasked", False)):
        expected = plain_loss(objective, model, batch, 2, masked_ones=masked_ones)
        torch.testing.assert_close(losses[name], expected, rtol=0, atol=1e-5)
    assert objective.weights == {"unmasked": 0.5}
    assert sum(objective.counts(batch).values()) == int(batch["states"].sum())


def test_the_upper_two_thirds_are_averaged_where_no_number_is_given() -> None:
    uppers = [bound(net("data2vec-audio", num_hidden_layers=count)).teacher.upper for count in (1, 2, 3, 4)]
    assert uppers == [1, 1, 2, 3]
    assert bound(net("data2vec-audio", num_hidden_layers=12)).teacher.upper == 8  # as in the paper


def test_smooth_errors() -> None:
    """Below beta e²/2beta, above e - beta/2."""
    model = net("data2vec-audio")
    objective = bound(model, beta=0.5)
    batch = batch_of(objective, model.config, LENGTHS)
    with torch.no_grad():
        states = model(batch["input_values"], batch["attention_mask"], mask_time_indices=batch["masked"])
        foretold = objective.head_module(states.last_hidden_state)[batch["masked"]]
        target = objective.targets(states.extract_features, batch)[batch["masked"]]
        errors = (foretold - target).abs().double().numpy()
        loss = float(objective(model, batch, need_logits=False).losses["states"])
    assert loss == pytest.approx(np.where(errors < 0.5, errors**2, errors - 0.25).mean(), abs=1e-6)


def test_rows_in_parts_weigh_as_one_batch() -> None:
    model = net("data2vec-audio")
    objective = bound(model)
    moved(objective)
    whole = batch_of(objective, model.config, LENGTHS)
    parts = [batch_of(objective, model.config, {row: LENGTHS[row]}) for row in LENGTHS]
    loss = objective(model, whole, need_logits=False).losses["states"]
    counts = [objective.counts(part)["states"] for part in parts]
    found = [objective(model, part, need_logits=False).losses["states"] for part in parts]
    assert sum(counts) == objective.counts(whole)["states"] == int(whole["masked"].sum())
    weighted = sum(count * value for count, value in zip(counts, found, strict=True)) / sum(counts)
    torch.testing.assert_close(weighted, loss, rtol=0, atol=1e-5)


def test_the_teacher_follows_by_its_decays() -> None:
    """From 0.5 by a tenth a step; from step 4 on 0.9."""
    model = net("data2vec-audio")
    objective = bound(model, decay=(0.5, 0.9), ramp=4)
    assert objective.front is not None
    weight = model.encoder.layers[1].feed_forward.output_dense.bias
    early = model.feature_projection.projection.bias
    teacher = dict(objective.teacher.named_buffers())["layers.1.feed_forward.output_dense.bias"]
    front = dict(objective.front.named_buffers())["projection.projection.bias"]
    expected, expected_early = weight[0].item(), early[0].item()
    for step, (decay, value) in enumerate(zip((0.6, 0.7, 0.8, 0.9, 0.9), (1.0, -2.0, 0.5, 3.0, 0.0), strict=True), 1):
        with torch.no_grad():
            weight.fill_(value)
            early.fill_(2 * value)
        objective.after_step(step)
        expected = decay * expected + (1 - decay) * value
        expected_early = decay * expected_early + (1 - decay) * 2 * value
        assert float(teacher[0]) == pytest.approx(expected, abs=1e-6), step
        assert float(front[0]) == pytest.approx(expected_early, abs=1e-6), step


def test_the_teacher_of_a_tiny_net_is_faster() -> None:
    for name, decay, ramp in (("tiny", (0.99, 0.999), 250), ("small", (0.999, 0.9999), 30_000)):
        model = build(f"data2vec-{name}", HeadSpec(kind="none"), backbone=BackboneConfig())
        assert (bound(model).decay, bound(model).ramp) == (decay, ramp)
        given = bound(model, decay=(0.5, 0.6), ramp=7)
        assert (given.decay, given.ramp) == ((0.5, 0.6), 7)


def test_no_optimizer_gets_the_teacher_and_checkpoints_hold_it() -> None:
    model = net("data2vec-audio")
    objective = bound(model, slow="layers")
    head, teacher = objective.modules_to_train()
    assert isinstance(teacher, SlowLayers)
    groups = parameter_groups(model, [head, teacher], OptimConfig())
    stepped = {id(parameter) for group in groups for parameter in group["params"]}
    trained = {id(parameter) for module in (model, head) for parameter in module.parameters()}
    assert stepped == trained and not list(teacher.parameters())
    kept = tensors_of(teacher)
    encoder = {name: p for name, p in model.encoder.named_parameters() if not name.startswith("pos_conv")}
    assert kept.keys() == encoder.keys()
    assert all(torch.equal(kept[name], parameter) for name, parameter in encoder.items())
    assert not any(kept[name].data_ptr() == parameter.data_ptr() for name, parameter in encoder.items())


def test_the_teacher_drops_nothing_out() -> None:
    model = net("data2vec-audio", hidden_dropout=0.5, attention_dropout=0.5, activation_dropout=0.5)
    objective = bound(model)
    for module in (model, *objective.modules_to_train()):
        module.train()  # as the engine does before each step
    batch = batch_of(objective, model.config, LENGTHS)
    features = model(batch["input_values"], batch["attention_mask"]).extract_features
    assert torch.equal(objective.targets(features, batch), objective.targets(features, batch))


def test_the_loss_falls() -> None:
    model = net("data2vec-audio")
    objective = bound(model, span=4, decay=(0.9, 0.99), ramp=50)
    found = losses(objective, model, batch_of(objective, model.config, dict.fromkeys(range(4), 1500)), steps=40)
    assert found[-1] < 0.7 * found[0]


def test_collapse_is_called_by_its_name() -> None:
    model = net("data2vec-audio")
    objective = bound(model)
    batch = batch_of(objective, model.config, LENGTHS)

    def called() -> str:
        output, number = objective(model, batch, need_logits=False), objective.counts(batch)["states"]
        return objective.collapse({name: float(total) / number for name, total in output.logs.items()})

    assert called() == ""
    torch.nn.init.zeros_(objective.head_module.weight)
    assert called() == ""  # as it is for a while under a slow warm-up
    layers = objective.teacher.layers
    kept = [layer.feed_forward.output_dense.weight.clone() for layer in layers]
    for layer in layers:  # all channels say what the first one says
        layer.feed_forward.output_dense.weight.copy_(layer.feed_forward.output_dense.weight[:1].expand(32, -1))
    assert called() == "few_directions: what the teacher gives varies in 1.00 directions"
    for layer, weight in zip(layers, kept, strict=True):
        layer.feed_forward.output_dense.weight.copy_(weight)
    assert called() == ""
    for layer in objective.teacher.layers:
        layer.feed_forward.output_dense.weight.zero_()
    assert called().startswith("constant_targets: ")


@pytest.mark.parametrize("count", [500, 12])
def test_directions_are_those_of_the_eigenvalues(count: int) -> None:
    states = torch.randn(count, 20, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 3, 20) + 5
    values = np.linalg.eigvalsh(np.cov(states.double().numpy().T, bias=True))
    assert directions(states).item() == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-4)


def test_logs_by_hand() -> None:
    model = net("data2vec-audio")
    objective = bound(model)
    batch = batch_of(objective, model.config, LENGTHS)
    logs = objective(model, batch, need_logits=False).logs
    number = objective.counts(batch)["states"]
    with torch.no_grad():
        output = model(batch["input_values"], batch["attention_mask"], mask_time_indices=batch["masked"])
        targets = objective.targets(output.extract_features, batch)[batch["masked"]].numpy()
    assert float(logs["states/target_variance"]) / number == pytest.approx(targets.var(axis=0).mean(), abs=1e-5)
    assert float(logs["states/masked"]) / number == pytest.approx(number / int(batch["states"].sum()))


def toy_fit(folder: Path, stop_at: int = 0, resume: bool = False) -> RunFolder:
    """Six steps with dropout and both losses; a teacher that is nearly as fast as the student."""
    model = net("data2vec-audio", hidden_dropout=0.1)
    objective = Teacher(Data2Vec(decay=(0.5, 0.8), ramp=5, unmasked=0.5))
    follow = objective.after_step

    def counted(step: int) -> None:
        follow(step)
        if step == stop_at:
            raise Interrupted("stopped", 2)

    objective.after_step = counted  # type: ignore[method-assign]
    config = FitConfig(
        batch=BatchConfig(examples=8),
        optim=OptimConfig(lr=3e-3),
        train=TrainConfig(steps=6, save_every=2, log_every=1, precision="fp32", progress=False, select_best=False),
    )
    run = RunFolder.create(folder, {"recipe": "toy"}, resume=resume)
    if stop_at:
        with pytest.raises(Interrupted):
            fit(model, ToneTask(objective, model.config), config, run)
    else:
        fit(model, ToneTask(objective, model.config), config, run)
    return run


def test_resume_is_bit_identical(tmp_path: Path) -> None:
    whole = toy_fit(tmp_path / "whole")
    toy_fit(tmp_path / "cut", stop_at=5)
    resumed = toy_fit(tmp_path / "cut", resume=True)
    untimed = [
        [{key: value for key, value in record.items() if "second" not in key and "per_s" not in key} for record in log]
        for log in (whole.read_log(), resumed.read_log())
    ]
    assert untimed[0] == untimed[1] and len(untimed[0]) > 6
    for file in ("model.safetensors", "objective-0.safetensors", "objective-1.safetensors"):
        a, b = (run.path / "checkpoint-6" / file for run in (whole, resumed))
        assert a.read_bytes() == b.read_bytes(), file
    # transformers alone loads what was trained
    loaded = AutoModel.from_pretrained(whole.model_dir)
    assert type(loaded).__name__ == "Data2VecAudioModel"


def test_what_cannot_be_taught_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot train a hubert net"):
        bound(net("hubert"))
    with pytest.raises(ConfigError, match="layers is 3, but the net has 2"):
        bound(net("data2vec-audio"), layers=3)
    with pytest.raises(ConfigError, match="no embedding"):
        bound(net("data2vec-audio", mask_time_prob=0.0))
    with pytest.raises(ConfigError, match="decay"):
        Data2Vec(decay=(0.9, 0.5))
    with pytest.raises(ConfigError, match="mask_rate"):
        Data2Vec(mask_rate=1.0)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_presets(size: str) -> None:
    model = build(f"data2vec-{size}", HeadSpec(kind="none"), backbone=BackboneConfig())
    objective = bound(model)
    batch = batch_of(objective, model.config, {0: 8000, 1: 6000})
    assert torch.isfinite(objective(model, batch, need_logits=False).losses["states"])
    if size == "tiny":
        assert sum(parameter.numel() for parameter in model.parameters()) < 3e6
