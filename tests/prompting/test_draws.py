"""Draws are decided by seed, task and row; nobody is shown itself; classes are balanced; neighbours are near."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hfcourse.errors import ConfigError, DataError
from hfcourse.prompting.draws import Draw, Neighbours

POOL = [{"text": f"row {n}", "label": n % 3} for n in range(30)]
ASKED = {"text": "asked", "label": 0}


def draw(**more: Any) -> Draw:
    given: dict[str, Any] = {"task": "t", "pool": POOL, "pool_name": "split 'train'"}
    return Draw(**(given | more))


def test_one_draw_serves_all_rows_and_fewer_examples_are_the_first_of_more() -> None:
    eight = draw().shown(ASKED, 0, 8)
    assert eight == draw().shown({"text": "other"}, 5, 8)  # another row, another object: another model's run
    assert eight[:4] == draw().shown(ASKED, 0, 4)
    assert len({row["text"] for row in eight}) == 8


def test_seed_and_task_decide_and_rows_where_it_is_asked_for() -> None:
    assert draw(seed=1).shown(ASKED, 0, 8) != draw().shown(ASKED, 0, 8) != draw(task="u").shown(ASKED, 0, 8)
    by_row = draw(by_row=True)
    assert by_row.shown(ASKED, 0, 8) != by_row.shown(ASKED, 1, 8)
    assert by_row.shown(ASKED, 1, 8) == draw(by_row=True).shown(ASKED, 1, 8)  # whatever was drawn before


def test_every_example_is_as_likely_as_any_other() -> None:
    counts = Counter(row["text"] for seed in range(600) for row in draw(seed=seed).shown(ASKED, 0, 5))
    assert len(counts) == 30 and min(counts.values()) > 60 and max(counts.values()) < 145  # 100 expected


def test_first_is_the_order_of_the_split() -> None:
    assert draw(select="first", seed=3).shown(ASKED, 0, 3) == POOL[:3]
    assert draw(select="first").is_fixed and not draw().is_fixed


@pytest.mark.parametrize("select", ["random", "first", "balanced"])
def test_no_row_is_its_own_example(select: Any) -> None:
    found = draw(select=select, labels=lambda: [row["label"] for row in POOL]).shown(dict(POOL[0]), 0, 29)
    assert POOL[0] not in found and len(found) == 29
    with pytest.raises(DataError, match="30 examples are asked for, and split 'train' has 29 others"):
        draw(select=select, labels=lambda: [row["label"] for row in POOL]).shown(dict(POOL[0]), 0, 30)


def test_more_examples_than_there_are() -> None:
    with pytest.raises(DataError, match=r"task t: 31 examples .* has 30: give fewer --shots"):
        draw().shown(ASKED, 0, 31)


@pytest.mark.parametrize("shots", [1, 2, 3, 7, 9])
def test_classes_differ_by_at_most_one(shots: int) -> None:
    pool = [{"text": f"row {n}", "label": 0 if n < 25 else n % 3} for n in range(60)]
    balanced = draw(pool=pool, select="balanced", labels=lambda: [row["label"] for row in pool])
    counts = Counter(row["label"] for row in balanced.shown(ASKED, 0, shots))
    assert max(counts.values()) - min(counts.get(label, 0) for label in range(3)) <= 1
    assert balanced.shown(ASKED, 0, 9)[:shots] == balanced.shown(ASKED, 0, shots)


def test_a_class_that_is_used_up_leaves_its_turn_to_others() -> None:
    pool = [{"text": f"row {n}", "label": int(n == 4)} for n in range(8)]
    found = draw(pool=pool, select="balanced", labels=lambda: [row["label"] for row in pool]).shown(ASKED, 0, 8)
    assert sorted(row["text"] for row in found) == sorted(row["text"] for row in pool)
    with pytest.raises(ConfigError, match="task t has no classes"):
        draw(select="balanced").shown(ASKED, 0, 2)


def test_neighbours_stand_nearest_to_the_question() -> None:
    texts = ["the price of oil", "a cat and a dog", "cats and dogs", "oil prices rose", "weather"]
    pool = [{"text": text} for text in texts]
    near = Neighbours(texts, ["a cat, a dog", "price of crude oil"], 5)
    found = draw(pool=pool, select="nearest", neighbours=near)
    assert [row["text"] for row in found.shown({"text": "a cat, a dog"}, 0, 2)] == texts[2:0:-1]
    assert found.shown({"text": "price of crude oil"}, 1, 1) == [pool[0]]
    assert found.shown(dict(pool[0]), 1, 1) == [pool[3]]  # itself is left out


def test_neighbours_are_those_of_brute_force() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    texts = [f"{word} {other} {word * 2}" for word in ("oil", "cat", "rain") for other in ("soil", "catalogue", "ran")]
    asked = ["oil rain", "catalogue of cats"] * 200  # more than one block
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True).fit(texts)
    expected = cosine_similarity(vectors.transform(asked), vectors.transform(texts))
    near = Neighbours(texts, asked, 3)
    for number in (0, 1, 398, 399):
        best = sorted(range(len(texts)), key=lambda place: -expected[number, place])[:3]
        assert near.of(number) == best
