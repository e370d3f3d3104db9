"""Prompts against strings written by hand; examples that do not fit are dropped and counted."""

from __future__ import annotations

from typing import Any

import pytest

from hfcourse.errors import DataError, ModelError
from hfcourse.prompting.compose import Chat, Composer, chat_of
from hfcourse.prompting.judging import MetricUse
from hfcourse.prompting.requests import Generation, Prompt
from hfcourse.prompting.scorer import scorer
from hfcourse.prompting.templates import Source, Template
from tests.prompting import tiny
from tests.prompting.fake import Parrot

SOURCE = Source(data="none")
EXAMPLES = [{"q": "one", "label": 0}, {"q": "two", "label": 1}]
ROW = {"q": "three", "label": 1}


def template(**more: Any) -> Template:
    given: dict[str, Any] = {
        "name": "t",
        "source": SOURCE,
        "text": "Q: {{q}}\nA:",
        "target": "label",
        "choices": ("no", "yes"),
        "output": "multiple_choice",
        "metrics": (MetricUse(name="acc"),),
    }
    return Template(**(given | more))


def test_multiple_choice_as_the_harness_writes_it() -> None:
    asked = Composer(template(description="Say it.\n"), Parrot()).question(ROW, 3, EXAMPLES)
    assert asked.prompts == (
        Prompt(shared="Say it.\nQ: one\nA: no\n\nQ: two\nA: yes\n\n", query="Q: three\nA:", options=(" no", " yes")),
    )
    assert (asked.number, asked.gold, asked.target, asked.choices) == (3, 1, "1", ("no", "yes"))
    assert (asked.dropped, asked.fits, asked.content_free) == (0, True, ())


def test_delimiters_and_what_examples_have_otherwise() -> None:
    shown = {"text": "Example {{q}} =", "target_delimiter": ">", "fewshot_delimiter": ";"}
    asked = Composer(template(example=shown, target_delimiter="", fewshot_delimiter="\n"), Parrot())
    assert asked.question(ROW, 0, EXAMPLES).prompts[0] == Prompt(
        shared="Example one =>no;Example two =>yes;", query="Q: three\nA:", options=("no", "yes")
    )


def test_generation_and_likelihood() -> None:
    text = template(output="generate_until", choices=None, target="{{q | upper}}", metrics=())
    asked = Composer(text, Parrot()).question(ROW, 0, EXAMPLES[:1])
    assert asked.prompts[0] == Prompt(shared="Q: one\nA: ONE\n\n", query="Q: three\nA:")
    assert asked.gold == ["THREE"]
    likely = template(output="loglikelihood", choices=None, target=" {{q | upper}}", target_delimiter="", metrics=())
    asked = Composer(likely, Parrot()).question(ROW, 0, EXAMPLES[:1])
    assert asked.prompts[0] == Prompt(shared="Q: one\nA: ONE\n\n", query="Q: three\nA:", options=(" THREE",))
    several = template(output="generate_until", choices=None, target="{{ [q, 'x'] }}", metrics=())
    asked = Composer(several, Parrot()).question(ROW, 0, EXAMPLES[:1])
    assert asked.prompts[0].shared == "Q: one\nA: one\n\n" and asked.gold == ["three", "x"]


def test_choices_that_are_beginnings() -> None:
    """As in Winogrande: the number of the right beginning is the text, and one ending follows each."""
    row = {"beginnings": ["The trophy", "The case"], "right": 0, "rest": "is big."}
    winogrande = template(text="{{right}}", choices="beginnings", target="rest")
    asked = Composer(winogrande, Parrot()).question(row, 0, [row | {"right": 1}])
    shared = "The case is big.\n\n"
    assert asked.prompts == tuple(
        Prompt(shared=shared, query=query, options=(" is big.",)) for query in ("The trophy", "The case")
    )
    assert asked.gold == 0


def test_questions_about_nothing_must_fit_too() -> None:
    """N/A and [MASK] are longer than the words that they stand for."""
    row = {"q": "", "label": 1}

    def dropped(room: int, calibrate: bool) -> int:
        return Composer(template(), Parrot(room), calibrate=calibrate).question(row, 0, EXAMPLES[:2]).dropped

    tight = next(room for room in range(60) if dropped(room, calibrate=False) == 0)
    assert dropped(tight - 1, calibrate=False) == dropped(tight, calibrate=True) == 1


def test_a_label_of_written_answers_must_be_one_of_them() -> None:
    several = template(output="generate_until", target="label", metrics=())
    for label in (-1, 9):
        with pytest.raises(DataError, match=f"row 0: the target {label} is none of the choices"):
            Composer(several, Parrot()).question({"q": "x", "label": label}, 0, [])


def test_a_number_that_is_no_choice_of_an_example() -> None:
    row = {"q": "0", "label": 0}
    with pytest.raises(DataError, match="an example gives the number 1999, and there are 2 choices"):
        Composer(template(text="{{q}}"), Parrot()).question(row, 0, [row | {"q": "1999"}])


def test_gold_by_name_by_list_and_missing() -> None:
    def gold(target: Any, row: dict[str, Any]) -> Any:
        return Composer(template(target=target), Parrot()).question(row, 4, []).gold

    assert gold("{{ 'yes' }}", ROW) == 1
    assert gold("{{ [0, 1] }}", ROW) == [0, 1]
    for row in ({"q": "hidden", "label": -1}, {"q": "far", "label": 2}):
        with pytest.raises(DataError, match=r"task t, row 4: the target .* is none of the choices 'no', 'yes'"):
            gold("label", row)


def test_a_label_that_a_table_reads_as_a_fraction_is_its_choice() -> None:
    """As CSV files give it where another row has no label; a choice that is written so goes first."""
    asked = Composer(template(), Parrot()).question({"q": "x", "label": 1.0}, 0, [{"q": "y", "label": 0.0}])
    assert asked.gold == 1 and asked.prompts[0].shared == "Q: y\nA: no\n\n"
    named = template(choices=("2.0", "1.0"))
    assert Composer(named, Parrot()).question({"q": "x", "label": 1.0}, 0, []).gold == 1
    for label in (0.5, float("nan"), 2.0, -1.0):
        with pytest.raises(DataError, match=r"task t, row 7: the target .* is none of the choices"):
            Composer(template(), Parrot()).check({"q": "x", "label": label}, 7, Parrot().behind)


def test_choices_that_a_model_cannot_tell_apart_are_known_by_their_row() -> None:
    """An uncased tokenizer reads both words alike; sentence pieces alone do not show a space in front."""
    cases: list[tuple[str, str, tuple[str, ...], str]] = [
        ("bert", "masks", ("good", "bad"), ""),
        ("bert", "masks", ("good", "GOOD"), "options ' good' and ' GOOD' have the same tokens"),
        ("gpt2", "eos", ("good", "GOOD"), ""),
        ("gpt2", "eos", ("good", "bad", "good"), "options ' good' and ' good' have the same tokens"),
        ("gpt2", "eos", ("good", " good"), ""),
        ("t5", "end", ("good", " good"), "have the same tokens"),
        ("t5", "end", ("good", ""), "option ' ' has no tokens of its own"),
    ]
    for name, kind, choices, reason in cases:
        words = tiny.tokenizer(kind, lowercase=name == "bert")
        asked = scorer(tiny.model(name, words), words)
        composer = Composer(template(choices=choices), asked)
        if not reason:
            composer.check(ROW, 5, asked.behind)
            continue
        with pytest.raises(DataError, match=f"task t, row 5: {reason}" if reason[0] == "o" else reason):
            composer.check(ROW, 5, asked.behind)
        with pytest.raises(DataError, match="prompt 0: "):  # as it is when it is asked all the same
            asked.log_likelihoods(composer.question(ROW, 5, []).prompts)


def test_oldest_examples_are_dropped_and_counted() -> None:
    def asked(room: int, **more: Any) -> Any:
        return Composer(template(), Parrot(max_length=room), **more).question(ROW, 0, EXAMPLES)

    # Each example has 4 words, the question 3, an answer 1; 3 more are kept for special tokens.
    assert asked(15).dropped == 0
    tight = asked(14)
    assert (tight.dropped, tight.fits, tight.prompts[0].shared) == (1, True, "Q: two\nA: yes\n\n")
    assert asked(7).dropped == 2 and asked(7).fits and not asked(7).prompts[0].shared
    assert not asked(6).fits
    for room in (14, 6):
        with pytest.raises(DataError, match=f"row 0: with 2 examples it does not fit the {room} tokens"):
            asked(room, strict=True)


def test_answers_that_are_generated_need_room_too() -> None:
    text = template(output="generate_until", choices=None, generation=Generation(max_new_tokens=5), metrics=())
    assert Composer(text, Parrot(max_length=20)).question(ROW, 0, EXAMPLES).dropped == 0
    assert Composer(text, Parrot(max_length=18)).question(ROW, 0, EXAMPLES).dropped == 1
    assert Composer(text, Parrot(max_length=8)).generation.max_new_tokens == 4


def test_an_encoder_reads_as_much_as_it_can_whatever_the_decoder_says() -> None:
    """The same room for each side: the longest prompt that is said to fit is the longest that the model takes."""
    words = tiny.tokenizer("end")
    asked = scorer(tiny.model("bart", words, max_position_embeddings=40), words)
    long = Generation(max_new_tokens=100, stop=())
    text = template(text="{{q}}", output="generate_until", choices=None, target="label", generation=long, metrics=())
    for task in (text, template(text="{{q}}", choices=("good " * 6, "bad"))):
        composer = Composer(task, asked, apart=asked.apart)
        assert composer.generation.max_new_tokens == 39  # one of 40 is the question's end
        for count in range(1, 40):
            question = composer.question({"q": "the cat " * count, "label": 0}, 0, [])
            if not question.fits:
                break
            if task is text:
                asked.generate(question.prompts, composer.generation)
            else:
                asked.log_likelihoods(question.prompts)
        assert 37 <= asked.count("the cat " * count) < 42  # all but a few tokens that are kept free
    assert not Composer(template(choices=("good " * 40, "bad")), asked, apart=True).question(ROW, 0, []).fits


def test_questions_about_nothing_keep_examples_and_choices() -> None:
    asked = Composer(template(), Parrot(), calibrate=True).question(ROW, 0, EXAMPLES)
    assert [prompt.query for prompt in asked.content_free] == ["Q: N/A\nA:", "Q: \nA:", "Q: [MASK]\nA:"]
    assert {prompt.shared for prompt in asked.content_free} == {asked.prompts[0].shared}
    assert {prompt.options for prompt in asked.content_free} == {(" no", " yes")}


class Chatty:
    """A tokenizer with a chat template alone."""

    chat_template = "yes"

    def __init__(self, system: bool) -> None:
        self.system = system

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        if not self.system and messages[0]["role"] == "system":
            raise TemplateError("System role not supported")
        turns = "".join(f"<{one['role'][0]}>{one['content']}" for one in messages)
        return turns + ("<a>" if add_generation_prompt else "")


@pytest.mark.parametrize(("system", "begin"), [(True, "<s>Say it.<u>"), (False, "<u>Say it.\n\n")])
def test_chat_has_examples_as_turns(system: bool, begin: str) -> None:
    chat: Chat = chat_of(Chatty(system))
    asked = Composer(template(description="Say it."), Parrot(), chat=chat).question(ROW, 0, EXAMPLES[:1])
    (prompt,) = asked.prompts
    assert prompt.shared + prompt.query == f"{begin}Q: one\nA:<a>no<u>Q: three\nA:<a>"
    assert prompt.shared == f"{begin}Q: one\nA:<a>no" and prompt.options == ("no", "yes")
    with pytest.raises(ModelError, match="no chat template"):
        chat_of(object())


def test_a_conversation_that_the_template_refuses_is_one_line() -> None:
    class Stubborn(Chatty):
        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            from jinja2 import TemplateError

            raise TemplateError("roles must\nalternate")

    for description in ("", "Say it."):
        with pytest.raises(ModelError, match=r"refuses the conversation \(roles must alternate\): leave out --chat"):
            Composer(template(description=description), Parrot(), chat=chat_of(Stubborn(True))).question(ROW, 0, [])
