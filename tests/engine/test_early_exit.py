"""Rows that leave early get the logits of the full computation, leave where the rule says, and cost no more layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from hfcourse.backbones.last_layer import layers_of
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.engine.early_exit import ENCODERS, Exited, Rule, early_exit, exits_of, no_exit
from hfcourse.errors import ModelError
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec

LAYERS = 4
RULES = [
    *(Rule("entropy", threshold) for threshold in (0.0, 0.6, 0.8, 0.9, 1.01)),
    *(Rule("confidence", threshold) for threshold in (0.4, 0.6)),
    *(Rule("patience", times, 0.5) for times in (1, 2, 3)),
    *(Rule("layer", number) for number in (1, 2, 3, 4)),
]


def model_of(name: str, pooling: Any = "cls", problem: Any = "single_label_classification", **changes: Any) -> Any:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "pad_token_id": 0}
    config = AutoConfig.for_model(name, **sizes | {"num_hidden_layers": LAYERS} | changes)
    labels = ("value",) if problem == "regression" else ("a", "b", "c")
    spec = HeadSpec(kind="sequence", labels=labels, layers="exits", pooling=pooling, problem=problem)
    torch.manual_seed(3)
    model = HeadedModel(headed_config(config, (spec,)), BackboneConfig())
    for parameter in model.parameters():
        if parameter.ndim > 1:  # so large that rows differ
            torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


def inputs(rows: int = 9) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (rows, 11), generator=torch.Generator().manual_seed(1))
    lengths = torch.arange(rows) % 6 + 6
    mask = (torch.arange(11) < lengths[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def every_layer(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, layers, labels) by the whole computation."""
    mask = batch.get("attention_mask")
    with torch.no_grad():
        states = model.backbone(**batch, output_hidden_states=True).hidden_states[1:]
        head = exits_of(model)
        answers = [head.exits[n].answer(s, None if mask is None else mask.bool()) for n, s in enumerate(states)]  # type: ignore[operator]
    return torch.stack(answers, dim=1)


def where(rule: Rule, logits: list[list[float]]) -> int:
    """The layer, from 1, at which one row leaves."""
    before, agreed = None, 0
    for layer, row in enumerate(logits, start=1):
        powers = [math.exp(x - max(row)) for x in row]
        shares = [power / sum(powers) for power in powers]
        entropy = -sum(p * math.log(p) for p in shares if p) / math.log(3)
        answer = row.index(max(row)) if len(row) > 1 else row[0]
        agreed = agreed + 1 if before is not None and abs(answer - before) <= rule.tolerance else 0
        before = answer
        sure = {
            "entropy": entropy <= rule.threshold,
            "confidence": max(shares) >= 1 - rule.threshold * (2 / 3),
            "patience": agreed >= rule.threshold,
            "layer": layer >= rule.threshold,
        }
        if sure[rule.criterion]:
            return layer
    return len(logits)


def assert_as_the_whole(model: Any, batch: dict[str, torch.Tensor], rule: Rule) -> Exited:
    logits = every_layer(model, batch)
    with early_exit(model, rule) as run:
        run(batch)
        found = run(batch)  # the second batch finds nothing of the first
    expected = [where(rule, row) for row in logits.tolist()]
    assert found.layers.tolist() == expected
    torch.testing.assert_close(found.logits, logits[range(len(logits)), [layer - 1 for layer in expected]])
    return found


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_every_encoder_gives_the_logits_of_the_whole(name: str, pooling: str) -> None:
    model = model_of(name, pooling)
    for rule in RULES:
        assert_as_the_whole(model, inputs(), rule)
    # In the middle of what this model doubts on the first layer: four rows leave there, the others later.
    shares = every_layer(model, inputs())[:, 0].softmax(dim=-1)
    doubts = {
        "entropy": torch.special.entr(shares).sum(dim=-1) / math.log(3),
        "confidence": (1 - shares.amax(-1)) * 1.5,
    }
    for criterion, found in doubts.items():
        rule = Rule(criterion, float(found.sort().values[3:5].mean()))  # type: ignore[arg-type]
        assert int((assert_as_the_whole(model, inputs(), rule).layers == 1).sum()) == 4


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_kernels_masks_and_batches_of_one(attention: str) -> None:
    model = model_of("modernbert", global_attn_every_n_layers=2, local_attention=4)  # masks of two kinds
    model.set_attn_implementation(attention)
    batch = inputs()
    for rule in RULES:
        assert_as_the_whole(model, batch, rule)
        assert_as_the_whole(model, {"input_ids": batch["input_ids"][:, :6]}, rule)
        assert_as_the_whole(model, {key: value[:1] for key, value in batch.items()}, rule)
        # As many rows as tokens: what is no row's own must not be taken for it.
        assert_as_the_whole(model, {key: value[:9, :9] for key, value in batch.items()}, rule)


@pytest.mark.parametrize("tolerance", [0.3, 1.0])
def test_numbers_agree_within_a_tolerance(tolerance: float) -> None:
    model = model_of("bert", problem="regression")
    found = assert_as_the_whole(model, inputs(), Rule("patience", 1, tolerance))
    assert len(found.layers.unique()) > 1


def test_patience_counts_for_each_row() -> None:
    """Eight layers: rows leave while others have agreed once, twice or not at all."""
    model = model_of("modernbert", "mean", problem="regression", num_hidden_layers=8)
    for times in (1, 2, 3):
        for tolerance in (1.3, 1.8, 2.3, 3.1):
            assert_as_the_whole(model, inputs(), Rule("patience", times, tolerance))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_layers_get_the_rows_that_are_left_and_none_is_run_for_nobody(rule: Rule) -> None:
    model = model_of("bert")
    rows: list[int] = []
    layers = layers_of(model.backbone)
    with early_exit(model, rule) as run:
        hooks = [layer.register_forward_pre_hook(lambda _, given: rows.append(len(given[0]))) for layer in layers]
        found = run(inputs())
    for hook in hooks:
        hook.remove()
    assert rows == [int((found.layers > number).sum()) for number in range(int(found.layers.max()))]


def test_the_model_is_left_as_it_was() -> None:
    model = model_of("bert")
    before = model(**inputs()).logits
    layers = layers_of(model.backbone)
    hooks = [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in layers]
    with pytest.raises(ZeroDivisionError), early_exit(model, Rule("layer", 1)) as run:
        run(inputs())
        raise ZeroDivisionError
    assert [len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in layers] == hooks
    assert torch.equal(model(**inputs()).logits, before)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_without_exits_it_is_the_models_own_answer(pooling: str) -> None:
    model = model_of("roberta", pooling)
    with no_exit(model) as run:
        found = run(inputs())
    torch.testing.assert_close(found.logits, model(**inputs()).logits)
    assert found.layers.tolist() == [LAYERS] * 9


def test_models_that_cannot_are_refused() -> None:
    spec = HeadSpec(kind="sequence", labels=("a", "b"), pooling="cls")
    plain = HeadedModel(headed_config(model_of("bert").config.backbone_config, (spec,)), BackboneConfig())
    with pytest.raises(ModelError, match="no classifier on its lower layers"):
        exits_of(plain)
    with pytest.raises(ModelError, match="layers of a albert model: take one of bert, camembert"):
        exits_of(model_of("albert", embedding_size=8))
    with pytest.raises(ModelError, match="single layer"):
        exits_of(model_of("bert", num_hidden_layers=1))
