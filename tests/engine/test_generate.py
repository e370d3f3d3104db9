"""What a model writes: equal to a plain loop and to transformers' own search; contradictions are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerBase

from hfcourse.data import tokenizers
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.engine.generate import DecodingConfig, Writer, _Shown
from hfcourse.errors import ConfigError, DataError, ModelError

LETTERS = "abcdefghijklmnopqrstuvwxyz \n"
POSITIONS = 24


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizers.train([LETTERS], TokenizerConfig(kind="char", style="gpt", lowercase=False))


def sharp(model: Any) -> Any:
    """Weights that make some tokens much likelier than others."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def gpt(tokenizer: PreTrainedTokenizerBase) -> Any:
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
    config = AutoConfig.for_model(
        "gpt2", vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=POSITIONS, **special
    )
    return sharp(AutoModelForCausalLM.from_config(config))


@pytest.fixture(scope="module")
def t5(tokenizer: PreTrainedTokenizerBase) -> Any:
    sizes = {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2}
    special = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
    return sharp(
        AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("t5", vocab_size=len(tokenizer), **sizes, **special))
    )


def written(
    model: Any, tokenizer: Any, prompt: str, *, seed: int = 0, show: bool = False, **how: Any
) -> list[dict[str, Any]]:
    return list(Writer(model, tokenizer, DecodingConfig(**how), seed=seed).write(prompt, show=show))


def greedy_loop(model: Any, ids: list[int], count: int) -> list[int]:
    """One whole forward pass a token; beyond the longest input the last half goes on."""
    seen, new = list(ids), list[int]()
    for _ in range(count):
        if len(seen) == POSITIONS:
            seen = seen[-POSITIONS // 2 :]
        with torch.no_grad():
            new.append(int(model(input_ids=torch.tensor([seen])).logits[0, -1].argmax()))
        seen.append(new[-1])
        if new[-1] == 2:
            break
    return new


@pytest.mark.parametrize("prompt", ["hello", "a b", ""])
def test_greedy_is_a_plain_loop(gpt: Any, tokenizer: PreTrainedTokenizerBase, prompt: str) -> None:
    ids = tokenizer(prompt)["input_ids"] or [2]
    (found,) = written(gpt, tokenizer, prompt, max_new_tokens=60)  # over the longest input, several times
    new = greedy_loop(gpt, ids, 60)
    assert found["prediction"] == tokenizer.decode(new, skip_special_tokens=True) and found["prompt"] == prompt
    assert found["ended"] == (new[-1] == 2) and found["tokens"] == len(new) - found["ended"]


def test_drawing_among_one_is_greedy(gpt: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    (plain,) = written(gpt, tokenizer, "abc", max_new_tokens=30)
    for how in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-4}, {"temperature": 0.0}):
        (found,) = written(gpt, tokenizer, "abc", max_new_tokens=30, **how)
        assert found == plain, how


def test_drawn_texts_follow_the_probabilities(gpt: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = torch.tensor([tokenizer("abc")["input_ids"]])
    with torch.no_grad():
        likely = (gpt(input_ids=ids).logits[0, -1] / 2).softmax(-1)
    best = likely.topk(3)
    texts = written(gpt, tokenizer, "abc", max_new_tokens=1, samples=300, temperature=2.0, top_k=3)
    for share, number in zip((best.values / best.values.sum()).tolist(), best.indices.tolist(), strict=True):
        drawn = sum(text["prediction"] == tokenizer.decode([number], skip_special_tokens=True) for text in texts)
        assert drawn / 300 == pytest.approx(share, abs=0.09)


def test_each_sample_has_draws_of_its_own(gpt: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    three = written(gpt, tokenizer, "abc", max_new_tokens=20, samples=3, temperature=1.0)
    five = written(gpt, tokenizer, "abc", max_new_tokens=20, samples=5, temperature=1.0)
    assert five[:3] == three and len({text["prediction"] for text in five}) > 1
    assert written(gpt, tokenizer, "abc", seed=1, max_new_tokens=20, samples=3, temperature=1.0) != three


def test_beams_are_transformers_own(gpt: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    found = written(gpt, tokenizer, "abc", max_new_tokens=8, num_beams=4, samples=3)
    ids = torch.tensor([tokenizer("abc")["input_ids"]])
    theirs = gpt.generate(
        ids, attention_mask=torch.ones_like(ids), num_beams=4, num_return_sequences=3, max_new_tokens=8
    )
    assert [text["prediction"] for text in found] == [
        tokenizer.decode(row[3:], skip_special_tokens=True) for row in theirs
    ]
    assert [text["id"] for text in found] == [0, 1, 2]


def test_seq2seq_models_answer(t5: Any, tokenizer: PreTrainedTokenizerBase, capsys: pytest.CaptureFixture[str]) -> None:
    for how in ({}, {"num_beams": 3}):
        (found,) = written(t5, tokenizer, "hello", show=True, max_new_tokens=12, **how)
        ids = torch.tensor([tokenizer("hello")["input_ids"]])
        theirs = t5.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, **how)
        assert found["prediction"] == tokenizer.decode(theirs[0, 1:], skip_special_tokens=True)
        assert capsys.readouterr().out == found["prediction"] + "\n"


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0, "samples": 2}, {"num_beams": 2, "samples": 2}])
def test_what_is_shown_is_what_is_kept(
    gpt: Any, tokenizer: PreTrainedTokenizerBase, capsys: pytest.CaptureFixture[str], how: dict[str, Any]
) -> None:
    count = 8 if "num_beams" in how else 50
    found = written(gpt, tokenizer, "abc", show=True, max_new_tokens=count, **how)
    assert capsys.readouterr().out == "".join(f"abc{text['prediction']}\n" for text in found)
    assert written(gpt, tokenizer, "abc", max_new_tokens=count, **how) == found
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def spaced() -> Any:
    """SentencePiece's way: a space is the beginning of a word, and the first one of what is decoded is dropped."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "</s>", *(f"▁{a}{b}" for a in "abcde" for b in "xyzu"), "\n"]
    words += [f"<0x{byte:02X}>" for byte in "é日\n".encode()]
    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")


def test_a_space_in_front_is_shown_too(gpt: Any, spaced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = written(gpt, spaced, "ax by", show=True, max_new_tokens=40)
    assert found["prediction"].startswith(" ")
    assert capsys.readouterr().out == f"ax by{found['prediction']}\n"


def test_a_text_is_shown_as_it_comes(spaced: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The space behind a line break is there, and no part of a character is printed."""
    ids = spaced.convert_tokens_to_ids
    é, day, line = ([f"<0x{byte:02X}>" for byte in one.encode()] for one in "é日\n")
    new = ids(["▁ay", "\n", "▁bz", *é, *day, *line, "▁cx", "</s>", *day[:2]])
    shown = _Shown(spaced, ids(["▁ax"]))
    seen = []
    for start, end in ((0, 5), (5, len(new))):  # two calls of generate
        shown.put(torch.tensor([ids(["▁ax"])]))
        for token in new[start:end]:
            shown.put(torch.tensor([token]))
            seen.append(capsys.readouterr().out)
        shown.end()
    shown.close()
    seen.append(capsys.readouterr().out)
    assert seen == [" ay", "\n", " bz", "", "é", "", "", "日", "\n", " cx", "", "", "", "\ufffd\ufffd\n"]


def test_a_checkpoint_s_own_min_p_does_not_come_back(gpt: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    plain = written(gpt, tokenizer, "abc", temperature=2.0, samples=3, max_new_tokens=20)
    gpt.generation_config.min_p = 1.0  # nothing but the likeliest
    try:
        assert written(gpt, tokenizer, "abc", temperature=2.0, samples=3, max_new_tokens=20) == plain
    finally:
        gpt.generation_config.min_p = None


def test_prompts_without_room_are_refused(gpt: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match="the prompt has 24 tokens, and the model sees 24"):
        written(gpt, tokenizer, "a" * POSITIONS)
    assert written(gpt, tokenizer, "a" * (POSITIONS - 1), max_new_tokens=1)
    with pytest.raises(DataError, match=r"20 tokens and max_new_tokens 5 exceed the 24.*num_beams"):
        written(gpt, tokenizer, "a" * 20, num_beams=2, max_new_tokens=5)
    tokenizer.bos_token = tokenizer.eos_token = None
    try:
        with pytest.raises(DataError, match="the prompt is empty"):
            written(gpt, tokenizer, "")
    finally:
        tokenizer.bos_token = tokenizer.eos_token = "<|endoftext|>"


def test_a_model_that_writes_nothing_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = AutoConfig.for_model("bert", vocab_size=len(tokenizer), **small)
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    for model_class in (AutoModelForMaskedLM, AutoModelForSequenceClassification):
        with pytest.raises(ModelError, match=r"writes no text: name a causal or seq2seq"):
            written(model_class.from_config(bert), tokenizer, "a")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"num_beams": 4, "temperature": 0.8}, "num_beams is 4 and temperature 0.8 draws"),
        ({"num_beams": 4, "top_k": 40}, "num_beams is 4 and top_k 40 draws"),
        ({"temperature": 0.0, "top_p": 0.9}, "temperature is 0, which draws nothing, and top_p 0.9"),
        ({"samples": 3}, "samples is 3 and nothing is drawn"),
        ({"num_beams": 2, "samples": 3}, "samples is 3 and num_beams is 2"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_contradictions_are_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DecodingConfig(**how)
