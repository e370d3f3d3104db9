"""A last layer that computes only what is read gives the same answers and gradients as a whole one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from hfcourse.backbones.last_layer import _BEHIND_ATTENTION, last_layer_at
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec
from hfcourse.model import read_states_only
from hfcourse.native import native_class
from hfcourse.objectives.masked_lm import MaskedLM

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
CLASSES = HeadSpec(kind="sequence", labels=("a", "b", "c"))
CHOICE, PAIR, MASKED = HeadSpec(kind="multiple_choice"), HeadSpec(kind="pair"), HeadSpec(kind="masked_lm")


def config_of(name: str) -> Any:
    return AutoConfig.for_model(name, **SMALL, pad_token_id=0)


def with_weights(model: Any) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def inputs(rows: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (rows, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[-1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def widths(model: Any) -> Iterator[list[int]]:
    """How many states each linear map of the last layer gets."""
    seen: list[int] = []
    layer = [module for module in model.modules() if type(module).__name__.endswith(("Layer", "TransformerBlock"))][-1]
    hooks = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:-1].numel()))
        for module in layer.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() >= theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs.get(name, torch.zeros(())).expand_as(gradient), msg=name)


@pytest.mark.parametrize("name", sorted(_BEHIND_ATTENTION))
def test_native_classes_that_read_the_first_state(name: str) -> None:
    model_class = native_class(config_of(name), [CLASSES])
    assert model_class is not None
    model = with_weights(model_class(config_of(name)))
    batch = inputs() | {"labels": torch.tensor([0, 1, 1])}
    whole = model(**batch)
    expected = gradients(whole.loss, model)
    with widths(model) as seen, read_states_only(model):
        narrow = model(**batch)
    assert min(seen) == 3 and max(seen) == 27  # attention sees all 27 states, what is behind it three
    torch.testing.assert_close(narrow.logits, whole.logits)
    assert_same(gradients(narrow.loss, model), expected)
    assert torch.equal(model(**batch).logits, whole.logits)  # as it was


@pytest.mark.parametrize("name", ["bert", "roberta", "electra", "distilbert"])
def test_choices_read_the_first_state_too(name: str) -> None:
    model_class = native_class(config_of(name), [CHOICE])
    assert model_class is not None
    model = with_weights(model_class(config_of(name)))
    batch = {key: value.view(2, 3, 9) for key, value in inputs(6).items()}
    whole = model(**batch).logits
    with widths(model) as seen, read_states_only(model):
        narrow = model(**batch).logits
    assert min(seen) == 6
    torch.testing.assert_close(narrow, whole)


@pytest.mark.parametrize(
    ("heads", "least"),
    [
        ([HeadSpec(kind="sequence", labels=("a", "b"), pooling="cls")], 3),
        ([HeadSpec(kind="sequence", labels=("a", "b"), pooling="cls", layers="mix"), PAIR], 3),
        ([HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean")], 27),
        ([HeadSpec(kind="frame", labels=("a", "b"), layers="mix")], 27),
        ([HeadSpec(kind="sequence", labels=("a", "b"), pooling="cls"), HeadSpec(kind="frame", labels=("a", "b"))], 27),
    ],
)
def test_shared_heads_compute_what_they_read(heads: list[HeadSpec], least: int) -> None:
    model = with_weights(HeadedModel(headed_config(config_of("bert"), tuple(heads)), BackboneConfig()))
    whole = model(**inputs()).logits
    with widths(model) as seen, read_states_only(model):
        narrow = model(**inputs()).logits
    assert min(seen) == least
    torch.testing.assert_close(narrow, whole)


def test_modern_bert_that_means_over_states_computes_all() -> None:
    config = config_of("modernbert")
    config.classifier_pooling = "mean"
    model_class = native_class(config, [CLASSES])
    assert model_class is not None
    model = with_weights(model_class(config))
    with widths(model) as seen, read_states_only(model):
        model(**inputs())
    assert min(seen) == 27


@pytest.mark.parametrize("name", sorted(_BEHIND_ATTENTION))
@pytest.mark.parametrize("headed", [False, True])
def test_masked_words_compute_the_masked_states(name: str, headed: bool) -> None:
    """One masked word or five among 27; values against the class without our objective."""
    if headed:
        model: Any = HeadedModel(headed_config(config_of(name), (MASKED, PAIR)), BackboneConfig())
    else:
        model_class = native_class(config_of(name), [MASKED])
        assert model_class is not None
        model = model_class(config_of(name))
    model = with_weights(model)
    batch = inputs()
    positions = torch.tensor([2, 4, 12, 19, 22])
    labels = torch.full((27,), -100).index_copy(0, positions, torch.tensor([7, 8, 9, 10, 11])).view(3, 9)
    pair = {"pair_labels": torch.tensor([0, 1, 1])} if headed else {}
    whole = model(**batch, labels=labels, **pair).loss
    expected = gradients(whole, model)
    given = {**batch, "labels": labels, "positions": positions, **pair}
    with widths(model) as seen:
        losses = MaskedLM({})(model, given, need_logits=False).losses
    assert min(seen) == (8 if headed else 5)
    narrow = torch.stack(list(losses.values())).sum()
    torch.testing.assert_close(narrow, whole, rtol=0, atol=1e-5)
    assert_same(gradients(narrow, model), expected)


def test_models_that_compute_all() -> None:
    """Another architecture; checkpointed gradients, whose second forward pass comes when the block is over."""
    gpt = AutoConfig.for_model("gpt2", vocab_size=50, n_embd=16, n_layer=2, n_head=2, pad_token_id=0)
    bert_class, gpt_class = native_class(config_of("bert"), [CLASSES]), native_class(gpt, [CLASSES])
    assert bert_class is not None and gpt_class is not None
    model = with_weights(gpt_class(gpt))
    whole = model(**inputs()).logits
    with last_layer_at(model, "first"), read_states_only(model):
        assert torch.equal(model(**inputs()).logits, whole)
    model = with_weights(bert_class(config_of("bert")))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    with widths(model) as seen, read_states_only(model):
        loss = model(**inputs(), labels=torch.tensor([0, 1, 1])).loss
    assert min(seen) == 27
    loss.backward()
