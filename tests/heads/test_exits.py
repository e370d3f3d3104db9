"""A classifier on every layer: its loss, and which weights learn in which stage."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, BertModel

from hfcourse.errors import ConfigError
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.exits import let_learn
from hfcourse.heads.spec import HeadSpec
from hfcourse.tasks.classification import ClassificationConfig

LAYERS = 3
LABELS = torch.tensor([0, 2, 1, 1])


def model_of(problem: Any = "single_label_classification") -> HeadedModel:
    labels = ("value",) if problem == "regression" else ("a", "b", "c")
    spec = HeadSpec(kind="sequence", labels=labels, layers="exits", pooling="cls", problem=problem)
    sizes = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    model = HeadedModel(headed_config(AutoConfig.for_model("bert", vocab_size=50, **sizes), (spec,)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (4, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": (torch.arange(7) < torch.tensor([7, 7, 5, 3])[:, None]).long()}


def by_hand(model: HeadedModel) -> list[torch.Tensor]:
    """Every exit's logits, from transformers' own BERT and the weights by name."""
    backbone = BertModel(model.backbone.config, add_pooling_layer=False).eval()
    backbone.load_state_dict(model.backbone.state_dict())
    states = backbone(**inputs(), output_hidden_states=True).hidden_states[1:]
    weights = model.state_dict()
    found = []
    for number, layer in enumerate(states):
        own = {name: weights[f"heads.sequence.exits.{number}.{name}"] for name in NAMES}
        normed = F.layer_norm(layer[:, 0], (16,), own["transform.0.weight"], own["transform.0.bias"])
        pooled = torch.tanh(normed @ own["transform.1.weight"].T + own["transform.1.bias"])
        found.append(pooled @ own["projection.weight"].T + own["projection.bias"])
    return found


NAMES = [f"{part}.{kind}" for part in ("transform.0", "transform.1", "projection") for kind in ("weight", "bias")]


def test_logits_are_the_last_exits_and_the_loss_weighs_higher_layers_more() -> None:
    model = model_of()
    output = model(**inputs(), labels=LABELS)
    logits = by_hand(model)
    torch.testing.assert_close(output.logits, logits[-1])
    losses = [F.cross_entropy(one, LABELS) for one in logits]
    torch.testing.assert_close(output.loss, (losses[0] + 2 * losses[1] + 3 * losses[2]) / 6)
    torch.testing.assert_close(model(**inputs()).logits, logits[-1])


def test_regression_has_squared_errors() -> None:
    model = model_of("regression")
    targets = torch.tensor([0.5, 1.0, -1.0, 2.0])
    losses = [F.mse_loss(one[:, 0], targets) for one in by_hand(model)]
    output = model(**inputs(), labels=targets)
    torch.testing.assert_close(output.loss, (losses[0] + 2 * losses[1] + 3 * losses[2]) / 6)


@pytest.mark.parametrize(
    ("part", "learning", "backbone"), [("all", [0, 1, 2], True), ("last", [2], True), ("others", [0, 1], False)]
)
def test_stages_train_what_they_should(part: Any, learning: list[int], backbone: bool) -> None:
    model = model_of()
    let_learn(model, "others")
    let_learn(model, part)  # an earlier choice leaves nothing behind
    loss = model(**inputs(), labels=LABELS).loss
    losses = [F.cross_entropy(one, LABELS) for one in by_hand(model)]
    share = sum(n + 1 for n in learning)
    torch.testing.assert_close(loss, sum((n + 1) * losses[n] for n in learning) / share)
    loss.backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    exits = {f"heads.sequence.exits.{number}.{name}" for number in learning for name in NAMES}
    assert {name for name in moved if name.startswith("heads")} == exits
    assert any(name.startswith("backbone") for name in moved) is backbone
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moved <= trained and {name for name in trained if name.startswith("heads")} == exits


def test_class_weights_do_not_reach_the_lower_exits() -> None:
    with pytest.raises(ConfigError, match=r"task\.class_weights .*task\.layers exits"):
        ClassificationConfig(class_weights=True, layers="exits")
