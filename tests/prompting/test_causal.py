"""Packed behind a shared prefix or read whole: the same as one text at a time, without any cache."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from hfcourse.errors import DataError, ModelError
from hfcourse.peft.wrap import wrap
from hfcourse.peft_settings import PeftSettings
from hfcourse.prompting import packing, prefix
from hfcourse.prompting.causal import CausalScorer
from hfcourse.prompting.projection import Reading
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.scorer import scorer
from tests.no_double import on_such_a_device
from tests.prompting.tiny import EXAMPLES, WORDS, model, prompts, tokenizer

PACKS = {"gpt2": "eos", "llama": "bos", "gemma2": "bos"}
READS_WHOLE = {"bloom": "eos", "gpt_neo": "eos", "mamba": "eos"}


def brute_force(model: Any, tokens: Any, prompt: Prompt) -> list[OptionScore]:
    """lm-evaluation-harness's pairs of tokens, and one forward pass with all logits for each."""
    found = []
    for option in prompt.options:
        text, more = prompt.shared + prompt.query, option + prompt.suffix
        context = text.rstrip()
        ids = tokens.encode(context)
        after = tokens.encode(text + more)[len(ids) :]
        if not text:
            start = tokens.eos_token_id if tokens.bos_token_id is None else tokens.bos_token_id
            ids, after = [start], tokens.encode(more, add_special_tokens=False)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([(ids + after)[:-1]]), use_cache=False).logits[0]
        told = logits.log_softmax(-1)[-len(after) :]
        logprob = told[range(len(after)), after].double().sum()
        found.append(OptionScore(float(logprob), len(after), told.argmax(-1).tolist() == after))
    return found


def assert_same(found: list[list[OptionScore]], expected: list[list[OptionScore]]) -> None:
    assert [[(one.tokens, one.greedy) for one in row] for row in found] == [
        [(one.tokens, one.greedy) for one in row] for row in expected
    ]
    numbers = [torch.tensor([one.logprob for row in rows for one in row]) for rows in (found, expected)]
    torch.testing.assert_close(*numbers, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(("name", "kind"), [*PACKS.items(), *READS_WHOLE.items()])
def test_equals_one_text_at_a_time(name: str, kind: str, cache: bool) -> None:
    tokens = tokenizer(kind)
    lm = model(name, tokens)
    asked = prompts()
    found = scorer(lm, tokens, batch_tokens=64, cache=cache)  # less than one text, more than several queries
    assert isinstance(found, CausalScorer)
    assert found.packs == (cache and name in PACKS)
    assert_same(found.log_likelihoods(asked), [brute_force(lm, tokens, prompt) for prompt in asked])


def test_suffix_belongs_to_the_option_and_a_prompt_may_be_empty() -> None:
    tokens = tokenizer("bos")
    lm = model("llama", tokens)
    options = (" good", " terrible")
    asked = [Prompt(query="the cat is", options=options, suffix=" and sang."), Prompt(query="", options=options)]
    assert_same(scorer(lm, tokens).log_likelihoods(asked), [brute_force(lm, tokens, prompt) for prompt in asked])


def test_a_greedy_option_is_known_as_such() -> None:
    tokens = tokenizer("eos")
    lm = model("gpt2", tokens)
    with torch.no_grad():
        best = {
            word: int(lm(input_ids=torch.tensor([tokens.encode(word)])).logits[0, -1].argmax())
            for word in WORDS.split()
        }
    texts = {word: str(tokens.decode(token)) for word, token in best.items()}
    word = next(word for word in best if tokens.encode(word + texts[word]) == [*tokens.encode(word), best[word]])
    ((score, other),) = scorer(lm, tokens).log_likelihoods([Prompt(query=word, options=(texts[word], "!?"))])
    assert score.greedy and not other.greedy


def test_what_is_shared_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tokenizer("eos")
    lm: Any = model("gpt2", tokens)
    ours = scorer(lm, tokens, batch_tokens=10_000)
    asked = [prompt for prompt in prompts() if prompt.shared == EXAMPLES]
    read: list[tuple[int, ...]] = []
    lm.transformer.wte.register_forward_hook(lambda module, inputs, output: read.append(tuple(inputs[0].shape)))
    ours.log_likelihoods(asked)
    whole = [len(tokens.encode(prompt.shared + prompt.query)) for prompt in asked]
    assert len(read) == 2 and all(rows == 1 for rows, _ in read)
    assert read[0][1] >= len(tokens.encode(EXAMPLES)) - 1
    # Two of three options add nothing: they are one token long.
    wonderful = len(tokens.encode(" wonderful birds sang")) - 1
    short = sum(len(tokens.encode(option)) - 1 for option in (" good", " terrible"))
    assert read[1][1] == sum(whole) - len(whole) * read[0][1] + len(whole) * (wonderful + short)


def test_options_of_one_token_are_told_by_one_place() -> None:
    tokens = tokenizer("eos")
    vocabulary = tokens.convert_ids_to_tokens(list(range(300, 320)))
    options = tuple(" " + token[1:] for token in vocabulary if token[0] == "Ġ" and token[1:].isalpha())[:4]
    asked = [Prompt(query=f"the {word} is", options=options) for word in ("cat", "dogs")]
    lm: Any = model("gpt2", tokens)
    seen: list[int] = []
    lm.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    found = scorer(lm, tokens)
    seen.clear()
    scores = found.log_likelihoods(asked)
    assert [score.tokens for row in scores for score in row] == [1] * 2 * len(options)
    assert seen == [2]  # states that were projected: the last of each query


def test_done_is_told_every_answer_and_an_interruption_loses_none() -> None:
    tokens = tokenizer("eos")
    ours = scorer(model("gpt2", tokens), tokens, batch_tokens=100)
    asked = prompts()
    kept: dict[int, list[OptionScore]] = {}
    assert ours.log_likelihoods(asked, kept.__setitem__) == [kept[number] for number in range(len(asked))]
    few: dict[int, list[OptionScore]] = {}

    def stop(number: int, scores: list[OptionScore]) -> None:
        few[number] = scores
        if len(few) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ours.log_likelihoods(asked, stop)
    assert few == {number: kept[number] for number in few}
    assert ours.log_likelihoods(asked) == [kept[number] for number in range(len(asked))]


def test_a_window_that_is_too_short_for_packing_is_seen() -> None:
    tokens = tokenizer("bos")
    lm = model("gemma2", tokens, sliding_window=24, layer_types=["sliding_attention", "full_attention"])
    asked = prompts()
    ours = scorer(lm, tokens)
    assert isinstance(ours, CausalScorer) and ours.packs and packing.exact_up_to(lm.config) == 24
    assert_same(ours.log_likelihoods(asked), [brute_force(lm, tokens, prompt) for prompt in asked])


def test_eager_attention_and_an_adapter() -> None:
    tokens = tokenizer("bos")
    lm: Any = model("llama", tokens, attn_implementation="eager")
    assert lm.config._attn_implementation == "eager"
    wrapped: Any = wrap(lm, PeftSettings(method="lora", rank=2))
    for key, parameter in wrapped.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    asked = prompts()[:12]
    ours = scorer(wrapped, tokens)
    assert isinstance(ours, CausalScorer) and ours.packs
    expected = [brute_force(wrapped, tokens, prompt) for prompt in asked]
    assert_same(ours.log_likelihoods(asked), expected)
    with wrapped.disable_adapter():
        assert ours.log_likelihoods(asked) != expected


@pytest.mark.parametrize(("method", "ahead"), [("prompt", 20), ("prefix", 0)])
def test_soft_prompts_are_seen_and_not_scored(method: Any, ahead: int) -> None:
    """peft's own prompt tuning gives logits of its virtual tokens as well."""
    tokens = tokenizer("eos")
    wrapped: Any = wrap(model("gpt2", tokens), PeftSettings(method=method))
    assert wrapped(input_ids=torch.tensor([[5, 6]])).logits.shape[1] == 2 + ahead
    asked = prompts()[8:14]
    assert_same(scorer(wrapped, tokens).log_likelihoods(asked), [brute_force(wrapped, tokens, one) for one in asked])


def test_a_model_that_cannot_go_on_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tokens = tokenizer("eos")
    with caplog.at_level(logging.WARNING):
        scorer(model("bloom", tokens), tokens)
    assert "BloomForCausalLM reads every prompt whole: it has no keys and values" in caplog.text
    lm: Any = model("gpt2", tokens)
    lm.config._attn_implementation = "flash_attention_2"
    assert prefix.obstacle(lm) == "flash_attention_2 takes no mask of its own for each question"
    broken: Any = model("gpt2", tokens)
    positions = broken.transformer.wpe.forward
    broken.transformer.wpe.forward = lambda ids: positions(ids * 0)  # knows no positions: nothing to get wrong
    assert not prefix.obstacle(broken)
    broken.transformer.wpe.forward = lambda ids: positions(torch.arange(ids.shape[1]))[None]  # by place in the row
    assert prefix.obstacle(broken) == "going on from them changes its answers"


def test_a_model_of_a_few_entries_goes_on_too() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    small = GPT2Config(vocab_size=8, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    torch.manual_seed(0)
    assert not prefix.obstacle(GPT2LMHeadModel(small).eval())


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba"])
def test_written_answers_equal_one_at_a_time(name: str) -> None:
    tokens = tokenizer("bos" if name == "llama" else "eos")
    lm: Any = model(name, tokens)
    lm.generation_config = GenerationConfig(eos_token_id=3, repetition_penalty=9.0, num_beams=2, max_length=5)
    asked = [Prompt(shared=p.shared, query=p.query) for p in prompts()]
    how = Generation(max_new_tokens=9, stop=("\n", "mat"))
    found: dict[int, str] = {}
    answers = scorer(lm, tokens, batch_tokens=200).generate(asked, how, found.__setitem__)
    assert answers == [found[number] for number in range(len(asked))]
    assert lm.generation_config.num_beams == 2  # what the checkpoint says is still there
    for prompt, answer in zip(asked, answers, strict=True):
        ids: Any = tokens.encode(prompt.shared + prompt.query)
        start = len(ids)
        with torch.no_grad():
            while len(ids) < start + 9 and ids[-1] != 3:
                ids.append(int(lm(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        text = str(tokens.decode(ids[start:], skip_special_tokens=True))
        assert answer == text.split("\n")[0].split("mat")[0]
    assert len(set(answers)) > 5


def test_writing_ends_when_all_rows_have_stopped() -> None:
    tokens = tokenizer("eos")
    lm: Any = model("gpt2", tokens)
    asked = [Prompt(query=text) for text in ("the cat", "dogs ran", "snow")]
    ours = scorer(lm, tokens)
    answers = ours.generate(asked, Generation(max_new_tokens=20, stop=()))
    passes: list[int] = []
    lm.transformer.wte.register_forward_hook(lambda module, inputs, output: passes.append(1))
    stops = tuple(answer[1:3] for answer in answers)
    stopped = ours.generate(asked, Generation(max_new_tokens=20, stop=stops))
    assert all(answer.startswith(text) and len(text) <= 3 for answer, text in zip(answers, stopped, strict=True))
    assert len(passes) < 10


def test_scores_where_a_device_has_no_double_precision() -> None:
    reading, logits = Reading.empty(), torch.rand(3, 7)
    reading.add([0, 1], [4, 2])
    reading.add([2], [5])
    assert reading.scores(on_such_a_device(logits)) == reading.scores(logits)


def test_a_temperature_draws() -> None:
    tokens = tokenizer("eos")
    ours = scorer(model("gpt2", tokens), tokens)
    asked, how = [Prompt(query="the cat")] * 4, Generation(max_new_tokens=5, stop=(), temperature=3.0)
    first = ours.generate(asked, how)
    assert ours.generate(asked, how) == first and len(set(first)) == 4
    assert ours.generate(asked, replace(how, seed=1)) != first
    greedy = ours.generate(asked, replace(how, temperature=0.0))
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}):
        assert ours.generate(asked, replace(how, **narrow)) == greedy != first


def test_errors_are_one_line() -> None:
    tokens = tokenizer("eos")
    lm = model("gpt2", tokens, n_positions=40)
    ours = scorer(lm, tokens)
    assert ours.max_length == 40 and ours.count("the cat") == len(tokens.encode("the cat"))
    long = Prompt(query="the cat sat " * 20, options=(" good", " bad"))
    cases = {
        "prompt 1 has .* tokens with its answer, and the model takes 40": [Prompt(query="a", options=("b",)), long],
        "prompt 0 has no options to compare": [Prompt(query="a")],
        "prompt 0: option '' has no tokens of its own": [Prompt(query="a", options=(" good", ""))],
        "prompt 0: options ' good' and ' good' have the same tokens": [Prompt(query="a", options=(" good", " good"))],
    }
    for message, asked in cases.items():
        with pytest.raises(DataError, match=message) as error:
            ours.log_likelihoods(asked)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="prompt 0 has 34 tokens with its answer, and the model takes 32"):
        scorer(model("gpt2", tokens, n_positions=32), tokens).generate([Prompt(query="!")], Generation())
    assert ours.log_likelihoods([]) == [] and ours.generate([], Generation()) == []
    damaged = model("gpt2", tokens)
    torch.nn.init.constant_(damaged.get_output_embeddings().weight, torch.nan)
    with pytest.raises(ModelError, match="no numbers"):
        scorer(damaged, tokens).log_likelihoods([Prompt(query="a", options=(" good", " bad"))])
    bare = tokenizer("masks")
    with pytest.raises(ModelError, match="prompt 0 is empty before its options, and the tokenizer has neither"):
        CausalScorer(lm, bare, max_length=40, batch_tokens=64).log_likelihoods([Prompt(query="", options=("a", "b"))])


def test_as_long_as_the_model_takes() -> None:
    tokens = tokenizer("eos")
    text = "the cat sat on a mat while birds sang"
    size = len(tokens.encode(text + " good")) - 1
    lm = model("gpt2", tokens, n_positions=size)
    asked = [Prompt(query=text, options=(" good", " bad"))]
    assert_same(scorer(lm, tokens).log_likelihoods(asked), [brute_force(lm, tokens, prompt) for prompt in asked])
