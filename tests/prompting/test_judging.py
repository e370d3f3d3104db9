"""Scores against cases worked by hand and other libraries."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hfcourse.errors import ConfigError
from hfcourse.prompting import answers, judging
from hfcourse.prompting.compose import Question
from hfcourse.prompting.judging import METRICS, MetricUse
from hfcourse.prompting.requests import OptionScore, Prompt
from hfcourse.prompting.templates import Output, Source, Template


def template(output: Output, *names: str, **more: Any) -> Template:
    uses = tuple(MetricUse(name=name) for name in names)
    return Template(name="t", source=Source(data="x"), text="q", target="t", output=output, metrics=uses, **more)


def question(
    choices: tuple[str, ...] = (), gold: Any = 0, free: int = 0, prompts: int = 1, target: str = ""
) -> Question:
    options = tuple(f" {choice}" for choice in choices)
    asked = tuple(Prompt(query=f"q{n}", options=options) for n in range(prompts))
    nothing = tuple(Prompt(query=f"n{n}", options=options) for n in range(free))
    return Question(
        number=7, prompts=asked, choices=choices, gold=gold, target=target, dropped=0, fits=True, content_free=nothing
    )


def scored(*logprobs: float, tokens: int = 1, greedy: int = -1) -> list[OptionScore]:
    return [OptionScore(value, tokens, place == greedy) for place, value in enumerate(logprobs)]


WAYS = ("acc", "acc_norm", "acc_bytes", "acc_token", "acc_mutual_info", "acc_calibrated", "exact_match", "brier_score")


def test_each_way_of_choosing_by_hand() -> None:
    choices = ("no", "éé", "perhaps")
    likely = [OptionScore(-2.0, 1, True), OptionScore(-2.4, 3, False), OptionScore(-6.0, 2, False)]
    bare = scored(-1.0, -3.0, -9.0)
    free = [scored(math.log(0.8), math.log(0.1), math.log(0.1)), scored(math.log(0.6), math.log(0.1), math.log(0.3))]
    asked = question(choices, gold=1, free=2)
    task = template("multiple_choice", *WAYS, choices=choices)
    assert [prompt.query for prompt in answers.prompts(task, asked, "Answer:")] == ["q0", "Answer:", "n0", "n1"]
    record = answers.record(task, asked, [likely, bare, *free])
    # sum: -2 | -2.4 | -6;  a character: -1 | -1.2 | -.86;  a byte: -1 | -.6 | -.86;  a token: -2 | -.8 | -3
    # by itself: -1 | .6 | 3;  calibrated: log .7, .1, .2 taken away: -1.64 | -.10 | -4.39
    assert record["picks"] == {
        "sum": 0, "character": 2, "byte": 1, "token": 1, "mutual_info": 2, "calibrated": 1
    }  # fmt: skip
    shares = [math.exp(value) for value in (-2.0, -2.4, -6.0)]
    brier = sum((share / sum(shares) - (place == 1)) ** 2 for place, share in enumerate(shares))
    assert record["scores"] == {
        "acc": 0.0, "acc_norm": 0.0, "acc_bytes": 1.0, "acc_token": 1.0, "acc_mutual_info": 0.0,
        "acc_calibrated": 1.0, "exact_match": 0.0, "brier_score": pytest.approx(brier),
    }  # fmt: skip
    assert (record["row"], record["prediction"], record["prompt"]) == (7, "no", "q0")


def test_equal_choices_fall_to_the_first_and_several_may_be_right() -> None:
    task = template("multiple_choice", "acc", choices=("a", "b"))
    assert answers.record(task, question(("a", "b"), gold=0), [scored(-1.0, -1.0)])["scores"] == {"acc": 1.0}
    assert answers.record(task, question(("a", "b"), gold=[1, 0]), [scored(-1.0, -2.0)])["scores"] == {"acc": 1.0}


def test_beginnings_are_compared_across_prompts() -> None:
    task = template("multiple_choice", "acc", choices=("A", "B"))
    record = answers.record(task, question(("A", "B"), gold=1, prompts=2), [scored(-3.0), scored(-1.0)])
    assert record["logprobs"] == [-3.0, -1.0] and record["options"] == ["q0", "q1"]
    assert record["scores"] == {"acc": 1.0}


def test_likelihood_of_a_target() -> None:
    task = template("loglikelihood", "perplexity", "acc")
    records = [answers.record(task, question(gold=["x"]), [scored(value, greedy=0)]) for value in (-1.0, -3.0)]
    records[1] = answers.record(task, question(gold=["x"]), [scored(-3.0)])
    found = judging.scores(records, task.metrics)
    assert found == {"perplexity": pytest.approx(math.exp(2)), "acc": 0.5}


def test_classes_as_scikit_learn_judges_them() -> None:
    from sklearn.metrics import f1_score, matthews_corrcoef

    task = template("multiple_choice", "f1", "mcc", choices=("no", "yes"))
    pairs = [(0, 0), (1, 0), (1, 1), (0, 1), (1, 1), (1, 1), (0, 0)]
    records = [
        answers.record(task, question(("no", "yes"), gold=gold), [scored(*((-1.0, -2.0) if not p else (-2.0, -1.0)))])
        for p, gold in pairs
    ]
    predicted, golds = zip(*pairs, strict=True)
    assert judging.scores(records, task.metrics) == {
        "f1": pytest.approx(f1_score(golds, predicted)),
        "mcc": pytest.approx(matthews_corrcoef(golds, predicted)),
    }


def test_choices_that_are_numbers() -> None:
    from scipy import stats

    task = template("multiple_choice", "pearson", "spearman", choices=("0", "1", "2"))
    truth, picked = (0.2, 1.9, 1.1, 0.4), (0, 2, 1, 1)
    records = [
        answers.record(
            task, question(("0", "1", "2"), gold=-1, target=str(true)), [scored(*(-abs(n - p) for n in range(3)))]
        )
        for true, p in zip(truth, picked, strict=True)
    ]
    found = judging.scores(records, task.metrics)
    assert found["pearson"] == pytest.approx(stats.pearsonr(truth, picked)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, picked)[0])


def test_generated_text_under_several_filters() -> None:
    ways = {"strict": (judging.regex(r"(\d+) is|is (\d+)"),), "loose": (str.strip, str.lower)}
    task = template("generate_until", "exact_match", filters=ways)
    records = [answers.record(task, question(gold=["12"]), [answer]) for answer in ("it is 12 or 13", "12 ", "none")]
    assert [one["predictions"]["strict"] for one in records] == ["12", "[invalid]", "[invalid]"]
    assert judging.scores(records, task.metrics) == {
        "exact_match,strict": pytest.approx(1 / 3),
        "exact_match,loose": pytest.approx(1 / 3),
    }
    assert judging.regex(r"\d", group=-1)("1 2 3") == "3" and judging.regex(r"\d", group=3)("1 2") == "[invalid]"


def test_exact_match_ignores_what_it_is_told_to() -> None:
    assert judging.exact_match("Paris.", ["Lyon", "paris"], ignore_case=True, ignore_punctuation=True) == 1
    assert judging.exact_match("Paris.", ["paris"], ignore_case=True) == 0
    assert judging.exact_match("12 apples", ["7 apples"], ignore_numbers=True) == 1
    assert judging.exact_match("12 apples", ["7 pears"], ignore_numbers=True) == 0
    assert judging.exact_match("the cat", ["cat"], regexes_to_ignore=[r"\bthe "]) == 1


def test_translations_and_answers() -> None:
    import sacrebleu

    task = template("generate_until", "f1", "bleu", "chrf", "chrf++", "ter", filters={"none": (str.strip,)})
    golds = [["a small cat sat there", "one small cat sat there"], ["dogs run fast in the rain"]]
    given = [" a small cat sat here ", "dogs run in the rain "]
    records = [answers.record(task, question(gold=gold), [text]) for gold, text in zip(golds, given, strict=True)]
    found = judging.scores(records, task.metrics)
    stripped = [text.strip() for text in given]
    columns = [[golds[0][0], golds[1][0]], [golds[0][1], golds[1][0]]]
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(stripped, columns).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(stripped, columns).score)
    assert found["chrf++"] == pytest.approx(sacrebleu.corpus_chrf(stripped, columns, word_order=2).score)
    assert found["ter"] == pytest.approx(sacrebleu.corpus_ter(stripped, columns).score) and not METRICS["ter"].higher
    # Without articles: 3 of "small cat sat here" in "small cat sat there"; 4 of 4 in 5.
    assert found["f1"] == pytest.approx((3 / 4 + 2 * 4 / (4 + 5)) / 2)


def test_a_metric_that_does_not_fit_the_task() -> None:
    with pytest.raises(ConfigError, match="task t: unknown metric of generate_until 'acc'"):
        template("generate_until", "acc")
    assert all(metric.one or metric.every for metric in METRICS.values())
