"""Masked texts in batches: the same as one text at a time whose word pieces are masked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hfcourse import model as models
from hfcourse.errors import DataError, ModelError
from hfcourse.heads.spec import HeadSpec
from hfcourse.prompting.masked import MaskedScorer
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.scorer import scorer
from tests.prompting.test_causal import assert_same
from tests.prompting.tiny import model, prompts, tokenizer


def brute_force(model: Any, tokens: Any, prompt: Prompt, whole_words: bool) -> list[OptionScore]:
    """WordPiece does not look over spaces: the parts of the text are tokenised on their own."""
    found = []
    for option in prompt.options:
        before, inside, behind = (
            tokens.tokenize(part) for part in (prompt.shared + prompt.query, option, prompt.suffix)
        )
        logprob, greedy = 0.0, True
        for number, token in enumerate(inside):
            masked = list(inside)
            masked[number] = "[MASK]"
            after = number + 1
            while whole_words and after < len(inside) and inside[after].startswith("##"):
                masked[after] = "[MASK]"
                after += 1
            text = ["[CLS]", *before, *masked, *behind, "[SEP]"]
            with torch.no_grad():
                output = model(input_ids=torch.tensor([tokens.convert_tokens_to_ids(text)]))
            told = output.logits[0, 1 + len(before) + number].log_softmax(-1)
            wanted = tokens.convert_tokens_to_ids(token)
            logprob += float(told[wanted])
            greedy &= int(told.argmax()) == wanted
        found.append(OptionScore(logprob, len(inside), greedy))
    return found


@pytest.mark.parametrize("whole_words", [True, False])
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_equals_one_text_at_a_time(name: str, whole_words: bool) -> None:
    tokens = tokenizer("masks")
    lm = model(name, tokens)
    options = (" good", " catsat", " wonderful birdsrun snows")
    asked = [Prompt(shared=p.shared, query=p.query, options=p.options, suffix=". And so") for p in prompts(options)]
    assert any(piece.startswith("##") for piece in tokens.tokenize(" ".join(asked[0].options)))
    ours = MaskedScorer(lm, tokens, max_length=512, batch_tokens=900, whole_words=whole_words)
    assert_same(ours.log_likelihoods(asked), [brute_force(lm, tokens, prompt, whole_words) for prompt in asked])


def test_our_own_head_is_asked_like_a_native_one() -> None:
    tokens = tokenizer("masks")
    lm: Any = models.build("bert-tiny", [HeadSpec(kind="masked_lm", layers="mix")], tokenizer=tokens)
    for parameter in lm.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    assert hasattr(lm, "heads")
    ours = scorer(lm, tokens)
    assert isinstance(ours, MaskedScorer) and ours.whole_words
    asked = prompts()[-4:]
    assert_same(ours.log_likelihoods(asked), [brute_force(lm, tokens, prompt, True) for prompt in asked])


def test_a_net_pretrained_with_other_heads_besides_is_loaded(tmp_path: Path) -> None:
    from hfcourse.prompting.models import load

    tokens = tokenizer("masks")
    heads = [HeadSpec(kind="masked_lm"), HeadSpec(kind="pair", labels=("no", "yes"))]
    saved: Any = models.build("nomicbert-tiny", heads, tokenizer=tokens)
    saved.save_pretrained(tmp_path)
    tokens.save_pretrained(tmp_path)
    found, words = load(str(tmp_path))
    (answers,) = scorer(found, words).log_likelihoods(prompts()[-1:])
    (expected,) = scorer(saved.eval(), tokens).log_likelihoods(prompts()[-1:])
    assert_same([answers], [expected])


def test_options_of_one_token_share_a_text() -> None:
    tokens = tokenizer("masks")
    lm: Any = model("bert", tokens)
    seen: list[int] = []
    lm.bert.register_forward_hook(lambda module, inputs, output: seen.append(output[0].shape[0]))
    scorer(lm, tokens).log_likelihoods([Prompt(query="the cat is", options=(" good", " bad", " snow"), suffix=".")])
    assert seen == [1]


def test_refusals_are_one_line() -> None:
    tokens = tokenizer("masks")
    lm = model("bert", tokens, max_position_embeddings=12)
    ours = scorer(lm, tokens)
    assert ours.max_length == 10
    with pytest.raises(ModelError, match="BertForMaskedLM fills gaps and does not write: give it tasks with options"):
        ours.generate([Prompt(query="the cat")], Generation())
    with pytest.raises(DataError, match="prompt 0 has 13 tokens with its answer, and the model takes 12"):
        ours.log_likelihoods([Prompt(query="the cat " * 5, options=(" good", " bad"))])
    with pytest.raises(DataError, match="prompt 0: options ' ~' and ' €' have the same tokens"):
        ours.log_likelihoods([Prompt(query="the", options=(" ~", " €"))])  # both unknown
    classifier = models.build("bert-tiny", HeadSpec(kind="sequence", labels=("a", "b")), tokenizer=tokens)
    with pytest.raises(ModelError, match="BertForSequenceClassification predicts no words: take a model with"):
        scorer(classifier, tokens)
