"""Prompts encoded once and options decoded in batches: the same as one pair at a time with the class's own loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from hfcourse.errors import DataError, ModelError
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.scorer import scorer
from hfcourse.prompting.seq2seq import Seq2SeqScorer
from tests.prompting.test_causal import assert_same
from tests.prompting.tiny import model, prompts, tokenizer


def brute_force(model: Any, tokens: Any, prompt: Prompt) -> list[OptionScore]:
    """The class shifts labels itself."""
    found = []
    for option in prompt.options:
        text = prompt.shared + prompt.query
        context = text.rstrip()
        labels = tokens.encode(text[len(context) :] + option + prompt.suffix, add_special_tokens=False)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens.encode(context)]), labels=torch.tensor([labels])).logits[0]
        told = logits.log_softmax(-1)
        logprob = told[range(len(labels)), labels].double().sum()
        found.append(OptionScore(float(logprob), len(labels), told.argmax(-1).tolist() == labels))
    return found


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_equals_one_pair_at_a_time(name: str) -> None:
    tokens = tokenizer("end")
    lm = model(name, tokens)
    asked = [*prompts(), Prompt(query="", options=("good", "bad"), suffix=" cat")]
    ours = scorer(lm, tokens, batch_tokens=700)
    assert isinstance(ours, Seq2SeqScorer)
    found: dict[int, list[OptionScore]] = {}
    scores = ours.log_likelihoods(asked, found.__setitem__)
    assert scores == [found[number] for number in range(len(asked))]
    assert_same(scores, [brute_force(lm, tokens, prompt) for prompt in asked])


@pytest.mark.parametrize("config", [PromptTuningConfig(num_virtual_tokens=3), LoraConfig(r=2, target_modules=["q"])])
def test_an_adapter_is_asked_through(config: Any) -> None:
    tokens = tokenizer("end")
    config.task_type = "SEQ_2_SEQ_LM"
    wrapped: Any = get_peft_model(model("t5", tokens), config)  # type: ignore[arg-type]
    for key, parameter in wrapped.named_parameters():
        if "prompt" in key or "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.5)
    ours, asked = scorer(wrapped, tokens), prompts()[8:14]
    assert_same(ours.log_likelihoods(asked), [brute_force(wrapped, tokens, prompt) for prompt in asked])
    assert len(ours.generate(asked, Generation(max_new_tokens=3))) == len(asked)


def test_a_prompt_is_encoded_once() -> None:
    tokens = tokenizer("end")
    lm: Any = model("t5", tokens)
    seen: list[tuple[int, ...]] = []
    lm.encoder.register_forward_hook(lambda module, inputs, output: seen.append(output[0].shape[:2]))
    asked = prompts()[:4]
    scorer(lm, tokens).log_likelihoods(asked)
    longest = max(len(tokens.encode(prompt.shared + prompt.query)) for prompt in asked)
    assert seen == [(len(asked), longest)]


def test_written_answers_equal_one_at_a_time() -> None:
    tokens = tokenizer("end")
    lm: Any = model("t5", tokens)
    asked = prompts()
    answers = scorer(lm, tokens, batch_tokens=500).generate(asked, Generation(max_new_tokens=8, stop=("er",)))
    for prompt, answer in zip(asked, answers, strict=True):
        ids = torch.tensor([tokens.encode(prompt.shared + prompt.query)])
        said = [0]
        with torch.no_grad():
            while len(said) < 9 and said[-1] != 3:
                said.append(int(lm(input_ids=ids, decoder_input_ids=torch.tensor([said])).logits[0, -1].argmax()))
        assert answer == str(tokens.decode(said[1:], skip_special_tokens=True)).split("er")[0]
    assert len(set(answers)) > 5


def test_a_model_that_does_not_say_how_answers_begin() -> None:
    tokens = tokenizer("end")
    with pytest.raises(ModelError, match="set decoder_start_token_id"):
        scorer(model("bart", tokens, decoder_start_token_id=None), tokens)


def test_too_long_is_one_line() -> None:
    tokens = tokenizer("end")
    ours = scorer(model("bart", tokens, max_position_embeddings=16), tokens)
    assert ours.max_length == 15
    with pytest.raises(DataError, match="prompt 0 has 41 tokens with its answer, and the model takes 16"):
        ours.log_likelihoods([Prompt(query="the cat sat on " * 8, options=("a", "b"))])
    assert ours.log_likelihoods([]) == []
