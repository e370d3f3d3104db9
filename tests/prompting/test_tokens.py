"""What is tokenised in parts has the tokens of the whole."""

from __future__ import annotations

from typing import Any

import pytest

from hfcourse.prompting.requests import Prompt
from hfcourse.prompting.tokens import Group, Tokens
from tests.prompting.tiny import EXAMPLES, prompts, tokenizer


def whole(groups: list[Group]) -> dict[int, tuple[list[int], list[list[int]]]]:
    return {q.number: (group.head + q.context, q.options) for group in groups for q in group.questions}


@pytest.mark.parametrize("kind", ["bos", "eos", "end", "masks"])
def test_a_shared_text_is_tokenised_once_and_to_the_same(kind: str) -> None:
    tokens: Any = tokenizer(kind)
    front = {"bos": [2], "masks": [2]}.get(kind, [])
    asked = prompts()
    groups = list(Tokens(tokens).groups(asked))
    assert max(len(group.head) for group in groups) > 50
    found = whole(groups)
    assert sorted(found) == list(range(len(asked)))
    for number, prompt in enumerate(asked):
        context = (prompt.shared + prompt.query).rstrip()
        ids = front + tokens.encode(context, add_special_tokens=False)
        texts = [prompt.shared + prompt.query + option for option in prompt.options]
        options = [(front + tokens.encode(text, add_special_tokens=False))[len(ids) :] for text in texts]
        assert found[number] == (ids, options)


def test_a_tokenizer_that_cannot_be_parted_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Tokens(tokenizer("eos"))
    plain = ours.bare
    counted = lambda texts: [[len(text), *plain([text])[0]] for text in texts]  # noqa: E731
    monkeypatch.setattr(ours, "bare", counted)
    asked = prompts()[:4]
    (group,) = ours.groups(asked)
    assert group.head == []
    assert [q.context[0] for q in group.questions] == [len(p.shared + p.query) for p in asked]


def test_white_space_stays_where_the_model_goes_on() -> None:
    ours = Tokens(tokenizer("eos"))
    ((group,), (other,)) = (list(ours.groups([prompt])) for prompt in (Prompt(query="cat "), Prompt(query="cat")))
    assert len(group.questions[0].context) == len(other.questions[0].context) + 1


def test_chat_texts_bring_their_own_start() -> None:
    tokens = tokenizer("bos")
    text = "[CLS]the cat"
    expected = tokens.encode(text, add_special_tokens=False)
    assert expected[0] == 2
    assert Tokens(tokens).encode([text]) == [expected]  # no second start
    assert Tokens(tokens, chat=True).encode(["the cat"]) == [tokens.encode("the cat", add_special_tokens=False)]
    assert Tokens(tokens).encode(["the cat"]) == [tokens.encode("the cat")]
    assert EXAMPLES.startswith("Questions")
