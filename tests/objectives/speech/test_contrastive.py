"""wav2vec 2.0: the losses of transformers' own forward, draws row by row, micro-batches, collapse, resuming, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForPreTraining,
    BertConfig,
    BertModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)

from hfcourse import model as models
from hfcourse.backbones.presets import preset_config
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.errors import ConfigError, ModelError
from hfcourse.objectives.speech.base import Draws
from hfcourse.objectives.speech.contrastive import Contrastive
from hfcourse.objectives.speech.settings import Wav2Vec2
from hfcourse.run_folder import RunFolder

from .waves_contrastive import TonesTask, batch_of, net, tones

LENGTHS = (4800, 3000, 4100, 1700)
EQUAL = (3200, 3200, 3200)


def bound(model: nn.Module, **settings: Any) -> Contrastive:
    objective = Wav2Vec2(**{"negatives": 20, **settings}).build()
    objective.bind(model)
    assert isinstance(objective, Contrastive)
    return objective


def theirs(model: Wav2Vec2ForPreTraining, batch: dict[str, Tensor]) -> Any:
    """The class's own forward, given the same masks and negatives in the form it wants them."""
    rows, states = batch["frame_mask"].shape
    flat = torch.zeros(rows, states, batch["negatives"].shape[2], dtype=torch.long)
    for row in range(rows):
        masked = batch["frame_mask"][row].nonzero().squeeze(1)
        for number, state in enumerate(masked.tolist()):
            flat[row, state] = row * states + masked[batch["negatives"][row, number].long()]
    return model(
        batch["input_values"],
        attention_mask=batch.get("attention_mask"),
        mask_time_indices=batch["frame_mask"].long(),
        sampled_negative_indices=flat,
    )


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def total(objective: Contrastive, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    losses = objective(model, batch, need_logits=False).losses
    return losses["contrastive"] + objective.weights["diversity"] * losses["diversity"]


def without_noise(logits: Tensor, tau: float = 1.0, hard: bool = False, **_: Any) -> Tensor:
    """Gumbel-softmax but for the noise; a chosen entry is exactly 1, so that equal codes are equal entries."""
    soft = (logits / tau).softmax(dim=-1)
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]) + (soft - soft.detach())


@pytest.mark.parametrize("lengths", [LENGTHS, EQUAL], ids=["padded", "equal"])
@pytest.mark.parametrize(("norm", "stable"), [("layer", True), ("group", False)])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_loss_of_transformers(
    monkeypatch: pytest.MonkeyPatch, norm: str, stable: bool, lengths: tuple[int, ...], training: bool
) -> None:
    monkeypatch.setattr(F, "gumbel_softmax", without_noise)
    model = net(norm, do_stable_layer_norm=stable).train(training)
    objective = bound(model, temperature=0.2, diversity=0.3)
    objective.after_step(10**5)
    batch = batch_of(objective, tones(lengths), model.config)
    assert ("attention_mask" in batch) == (lengths is LENGTHS)
    full, number = theirs(model, batch), objective.counts(batch)["contrastive"]
    assert number == batch["frame_mask"].sum()
    output = objective(model, batch, need_logits=False)
    for name, whole in (("contrastive", full.contrastive_loss), ("diversity", full.diversity_loss)):
        torch.testing.assert_close(output.losses[name], whole / number, rtol=0, atol=1e-5)
    ours = total(objective, model, batch)
    torch.testing.assert_close(ours, full.loss / number, rtol=0, atol=1e-5)
    there, here = gradients(full.loss / number, model), gradients(total(objective, model, batch), model)
    assert here.keys() == there.keys()
    for name, value in there.items():
        torch.testing.assert_close(here[name], value, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@torch.no_grad()
def test_logs_against_a_loop_over_masked_states() -> None:
    model = net().eval()
    objective = bound(model)
    batch = batch_of(objective, tones(LENGTHS), model.config)
    output, full = objective(model, batch, need_logits=False), theirs(model, batch)
    found: dict[str, list[float]] = {name: [] for name in ("accuracy", "positive", "negative", "apart")}
    for row, mask in enumerate(batch["frame_mask"]):
        masked = mask.nonzero().squeeze(1).tolist()
        context, targets = full.projected_states[row], full.projected_quantized_states[row]
        for number, state in enumerate(masked):
            others = [masked[n] for n in batch["negatives"][row, number].tolist()]
            positive = float(torch.cosine_similarity(context[state], targets[state], dim=0))
            cosines = [float(torch.cosine_similarity(context[state], targets[other], dim=0)) for other in others]
            differ = [c for c, o in zip(cosines, others, strict=True) if not torch.equal(targets[o], targets[state])]
            found["accuracy"].append(positive > max(differ, default=-2))
            found["positive"].append(positive)
            found["negative"].append(sum(cosines) / len(cosines))
            found["apart"].append(abs(positive - found["negative"][-1]))
    for name, values in found.items():
        assert float(output.logs[f"contrastive/{name}"]) == pytest.approx(sum(values), abs=1e-3), name
    number = objective.counts(batch)["contrastive"]
    means = {name.partition("/")[2]: float(value) / number for name, value in output.logs.items()}
    assert means["perplexity"] == pytest.approx(float(full.codevector_perplexity), rel=1e-4)
    assert means["masked"] == pytest.approx(number / int(batch["states"].sum()))


@torch.no_grad()
def test_half_precision_is_near() -> None:
    model = net().eval()
    objective = bound(model)
    batch = batch_of(objective, tones(LENGTHS), model.config)
    whole = float(total(objective, model, batch))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(total(objective, model, batch)) == pytest.approx(whole, rel=0.05)


# Draws


def test_negatives_are_other_masked_states_of_the_row() -> None:
    states = np.array([30, 7, 2, 1, 25])
    objective = Contrastive(Wav2Vec2(negatives=400))
    drawn = objective.draw(states, Draws(0, 0, np.arange(5)))
    for row, mask in enumerate(drawn["frame_mask"]):
        own = np.flatnonzero(mask)
        assert (
            drawn["masked"][row, : len(own)].tolist() == own.tolist() and (drawn["masked"][row, len(own) :] < 0).all()
        )
        for number in range(len(own)):
            found, often = np.unique(drawn["negatives"][row, number], return_counts=True)
            others = sorted(set(range(len(own))) - {number}) or [0]
            assert found.tolist() == others
            assert often.min() > 400 / len(others) / 4, "uniform, as far as 400 draws tell"


def test_strays_are_masked_states_of_other_rows() -> None:
    states = np.array([30, 7, 2, 25])
    objective = Contrastive(Wav2Vec2(negatives=4, elsewhere=600))
    drawn = objective.draw(states, Draws(0, 0, np.arange(4)))
    longest = drawn["masked"].shape[1]
    real = drawn["masked"] >= 0
    for row in range(4):
        elsewhere = [r * longest + n for r, n in zip(*real.nonzero(), strict=True) if r != row]
        for number in range(int(real[row].sum())):
            found, often = np.unique(drawn["strays"][row, number], return_counts=True)
            assert found.tolist() == elsewhere
            assert often.min() > 600 / len(elsewhere) / 4, "uniform, as far as 600 draws tell"
    alone = objective.draw(np.array([30]), Draws(0, 0, np.arange(1)))
    assert (alone["strays"] == np.arange(alone["masked"].shape[1])[None, :, None]).all(), "its own code is left out"


@torch.no_grad()
def test_loss_with_strays_against_a_loop() -> None:
    model = net().eval()
    objective = bound(model, elsewhere=7, temperature=0.2)
    batch = batch_of(objective, tones(LENGTHS), model.config)
    output, full = objective(model, batch, need_logits=False), theirs(model, batch)
    context, targets = full.projected_states, full.projected_quantized_states
    longest, losses = batch["masked"].shape[1], []
    for row, masked in enumerate(batch["masked"].tolist()):
        for number, state in enumerate(masked):
            if state < 0:
                continue
            wrong = [targets[row, masked[n]] for n in batch["negatives"][row, number].tolist()]
            for stray in batch["strays"][row, number].tolist():
                other = stray // longest
                assert other != row
                wrong.append(targets[other, batch["masked"][other, stray % longest]])
            own = targets[row, state]
            options = [own, *(option for option in wrong if not torch.equal(option, own))]
            logits = torch.cosine_similarity(context[row, state], torch.stack(options), dim=-1) / 0.2
            losses.append(float(logits.logsumexp(0) - logits[0]))
    assert float(output.losses["contrastive"]) == pytest.approx(sum(losses) / len(losses), abs=1e-4)


def test_draws_belong_to_the_row() -> None:
    objective = Contrastive(Wav2Vec2())
    together = objective.draw(np.array([30, 50, 12]), Draws(3, 1, np.array([5, 6, 7])))
    alone = objective.draw(np.array([30]), Draws(3, 1, np.array([5])))
    masked = alone["masked"].shape[1]
    assert (together["frame_mask"][0, :30] == alone["frame_mask"][0]).all()
    assert (together["negatives"][0, :masked] == alone["negatives"][0]).all()
    again = objective.draw(np.array([30]), Draws(3, 2, np.array([5])))
    assert again["negatives"].shape != alone["negatives"].shape or (again["negatives"] != alone["negatives"]).any()


@torch.no_grad()
def test_a_row_with_one_masked_state_has_nothing_to_tell_apart() -> None:
    model = net().eval()
    objective = bound(model)
    batch = batch_of(objective, tones([200, 200]), model.config)
    assert batch["states"].tolist() == [2, 2] and objective.counts(batch)["contrastive"] == 2
    assert float(objective(model, batch, need_logits=False).losses["contrastive"]) == 0


# Batches, padding, processes


@torch.no_grad()
def test_micro_batches_add_up_and_padding_changes_nothing() -> None:
    model = net("group").eval()
    objective = bound(model)
    waves = tones(LENGTHS)
    whole_batch = batch_of(objective, waves, model.config)
    whole, count = objective(model, whole_batch, need_logits=False), objective.counts(whole_batch)["contrastive"]
    loss, logs, there = torch.zeros(()), dict.fromkeys(whole.logs, 0.0), 0
    for rows in ([0], [1, 3], [2]):
        part = batch_of(objective, [waves[row] for row in rows], model.config, rows=rows)
        output, number = objective(model, part, need_logits=False), objective.counts(part)["contrastive"]
        loss, there = loss + output.losses["contrastive"] * number, there + number
        logs = {name: logs[name] + float(value) for name, value in output.logs.items()}
    assert there == count
    torch.testing.assert_close(loss / count, whole.losses["contrastive"], rtol=0, atol=1e-5)
    for name in ("accuracy", "positive", "negative", "apart"):
        assert logs[f"contrastive/{name}"] == pytest.approx(float(whole.logs[f"contrastive/{name}"]), abs=1e-3)


def test_a_wrapped_model_gives_the_same(tmp_path: Path) -> None:
    """DistributedDataParallel's own forward runs, so that gradients are exchanged; they and the loss are the same."""
    from torch import distributed

    model = net().eval()
    objective = bound(model)
    batch = batch_of(objective, tones(LENGTHS), model.config)
    plain = gradients(total(objective, model, batch), model)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)  # no code is drawn: eval
        seen: list[int] = []
        wrapped.register_forward_hook(lambda *_: seen.append(1))
        both = gradients(total(objective, wrapped, batch), model)
    finally:
        distributed.destroy_process_group()
    assert seen == [1] and "forward" not in model.__dict__
    assert plain.keys() <= both.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(both[name], gradient, msg=name)


# Learning and collapse


@torch.no_grad()
def means(objective: Contrastive, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, float]:
    output, count = objective(model, batch, need_logits=False), objective.counts(batch)
    return {name: float(total) / count[name.split("/")[0]] for name, total in output.logs.items()}


def test_it_learns_to_tell_tones_apart() -> None:
    model = net("group").train()
    objective = bound(model, gumbel=(0.5, 0.5, 1.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.98))
    waves = tones([4800] * 8)
    first = last = 0.0
    for step in range(90):
        loss = total(objective, model, batch_of(objective, waves, model.config, epoch=step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        last = loss.item()
        first = first or last
    assert last < 0.85 * first, (first, last)
    logs = means(objective, model.eval(), batch_of(objective, waves, model.config, epoch=-1))
    assert logs["contrastive/accuracy"] > 0.25, "chance is 1 of 21"
    assert logs["contrastive/positive"] > logs["contrastive/negative"] + 0.1
    assert objective.collapse(logs) == ""


def test_collapse_is_found() -> None:
    model = net().eval()
    objective = bound(model)
    batch = batch_of(objective, tones(LENGTHS), model.config)
    assert objective.collapse(means(objective, model, batch)) == "" and objective.collapse({}) == ""
    with torch.no_grad():
        model.project_q.weight.zero_()
    assert objective.collapse(means(objective, model, batch)).startswith("equal_targets: ")
    with torch.no_grad():  # two states have codes of their own, all others share one
        model.quantizer.weight_proj.weight.zero_()
        model.quantizer.weight_proj.bias[[3, 12]] = 1.0
    logs = means(objective, model, batch)
    assert logs["contrastive/perplexity"] == pytest.approx(2.0, abs=1e-4)
    assert objective.collapse(logs) == "few_codes: the perplexity of 8 codes is 1.00"


def test_codes_cool_down_and_the_config_tells() -> None:
    model = net()
    objective = bound(model, gumbel=(2.0, 0.5, 0.9), temperature=0.2)
    assert model.quantizer.temperature == 2.0
    objective.after_step(3)
    assert model.quantizer.temperature == pytest.approx(2.0 * 0.9**3)
    objective.begin(1000)
    assert model.quantizer.temperature == 0.5
    config = model.config
    assert (config.num_negatives, config.contrastive_logits_temperature, config.diversity_loss_weight) == (20, 0.2, 0.1)


def fitted(folder: Path, steps: int, *, resume: bool = False, stop: int = 0) -> tuple[dict[str, Tensor], RunFolder]:
    """Six steps; or only the first ones of them, or from there on."""
    model = net(hidden_dropout=0.1, layerdrop=0.3)
    task = TonesTask(Contrastive(Wav2Vec2(negatives=10, gumbel=(2.0, 0.1, 0.5))), model.config)
    if stop:
        after = task.objective.after_step

        def stopped(step: int) -> None:
            after(step)
            if step == stop + 1:
                raise KeyboardInterrupt

        task.objective.after_step = stopped  # type: ignore[method-assign]
    train = TrainConfig(steps=steps, save_every=2, eval_every=100, log_every=1, precision="fp32", progress=False)
    config = FitConfig(batch=BatchConfig(examples=6), optim=OptimConfig(lr=1e-2), train=train)
    run = RunFolder.create(folder, {"recipe": "tones"}, resume=resume)
    fit(model, task, config, run)
    return {name: value.clone() for name, value in model.state_dict().items()}, run


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, run = fitted(tmp_path / "whole", 6)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", 6, stop=4)
    resumed, _ = fitted(tmp_path / "cut", 6, resume=True)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    record = run.read_log()[0]
    assert {"loss/contrastive", "loss/diversity", "contrastive/perplexity", "contrastive/masked"} <= record.keys()
    assert record["loss"] == pytest.approx(record["loss/contrastive"] + 0.1 * record["loss/diversity"])


# What it is built on


def test_the_preset_is_transformers_own_class_and_loads_without_us(tmp_path: Path) -> None:
    objective = Wav2Vec2().build()
    model = models.build("wav2vec2-tiny", objective.head)
    assert type(model) is Wav2Vec2ForPreTraining
    objective.bind(model)
    model.save_pretrained(tmp_path)
    backbone, whole = AutoModel.from_pretrained(tmp_path), AutoModelForPreTraining.from_pretrained(tmp_path)
    assert type(backbone) is Wav2Vec2Model and type(whole) is Wav2Vec2ForPreTraining
    wave = torch.from_numpy(np.stack(tones([16_000])))
    expected = model.eval().wav2vec2(wave).last_hidden_state
    assert expected.shape == (1, 48, 192)
    torch.testing.assert_close(backbone.eval()(wave).last_hidden_state, expected)
    assert torch.equal(whole.quantizer.codevectors, model.quantizer.codevectors)  # type: ignore[attr-defined]


def test_the_base_preset_is_transformers_default() -> None:
    ours, default = preset_config("wav2vec2-base", None), Wav2Vec2Config()
    assert ours.to_json_string(use_diff=False) == default.to_json_string(use_diff=False)


def test_a_net_without_a_codebook_is_refused() -> None:
    bert = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9))
    with pytest.raises(ConfigError, match=r"BertModel has no codebook, .*: take wav2vec2-tiny"):
        Wav2Vec2().build().bind(bert)
    with pytest.raises(ModelError, match="has no wav2vec2 head"):
        models.build("apc-tiny", Contrastive.head)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mask_rate": 1.5}, "mask_rate is 1.5"),
        ({"span": 0}, "span is 0"),
        ({"negatives": 0}, "negatives 0"),
        ({"elsewhere": -1}, "elsewhere is -1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"gumbel": (2.0, 0.0, 0.9)}, "gumbel"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Wav2Vec2(**wrong)
