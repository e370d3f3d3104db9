"""Backbone and head of models whose classes lay them out differently."""

from __future__ import annotations

import torch
from transformers import T5ForQuestionAnswering, T5Model

from hfcourse.backbones.lookup import GivenStates
from hfcourse.backbones.parts import fingerprint, head_children, with_decoder_inputs
from tests.peft.tiny import inputs, make


def test_what_lies_outside_the_backbone() -> None:
    assert head_children(make("bert")) == ["dropout", "classifier"]
    assert head_children(make("bert").base_model) == []
    config = make("t5").config
    assert head_children(T5ForQuestionAnswering(config)) == ["qa_outputs"]
    assert head_children(T5Model(config)) == [] and head_children(make("bart").base_model) == []
    assert head_children(make("hubert")) == ["projector", "classifier"]


@torch.no_grad()
def test_states_of_a_bare_t5_are_those_that_its_classifier_reads() -> None:
    model, batch = make("t5"), inputs("t5")
    expected, backbone = model(**batch).logits, model.base_model
    states = backbone(**with_decoder_inputs(backbone, batch)).last_hidden_state
    model.transformer = GivenStates(None)
    torch.testing.assert_close(model(**batch, inputs_embeds=states).logits, expected)


@torch.no_grad()
def test_a_fingerprint_tells_weights_apart() -> None:
    model = make("bert")
    first = fingerprint(model)
    assert first == fingerprint(model.base_model) == fingerprint(make("bert"))
    model.classifier.weight.add_(1)
    model.bert.pooler.dense.weight.add_(1)
    assert fingerprint(model) == first, "neither head nor pooler"
    model.bert.encoder.layer[0].output.dense.bias.add_(1e-3)
    assert fingerprint(model) != first
    model.bert.embeddings.word_embeddings.weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), False)
    assert fingerprint(model) == "", "quantised weights are read otherwise"
