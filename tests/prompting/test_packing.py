"""Rows, places and masks of a case worked by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, LlamaConfig

from hfcourse.prompting import packing
from hfcourse.prompting.tokens import Group, Question

CPU = torch.device("cpu")


def test_a_row_by_hand() -> None:
    """Prefix (10, 11) of the context; then query 12 with options (20, 21) and 30, and query (13, 14) with 40, 50."""
    questions = [Question(7, [10, 11, 12], [[20, 21], [30]]), Question(3, [10, 11, 13, 14], [[40], [50, 51, 52]])]
    (row,) = packing.rows(questions, 2, 2, 99, torch.float32, CPU)
    assert row.ids.tolist() == [[12, 20, 13, 14, 50, 51]]
    assert row.positions.tolist() == [[2, 3, 2, 3, 4, 5]]
    assert row.places.tolist() == [0, 1, 3, 4, 5]
    assert row.reading.counts == [2, 1, 1, 3]
    assert row.reading.rows == [0, 1, 0, 2, 2, 3, 4]
    assert row.reading.targets == [20, 21, 30, 40, 50, 51, 52]
    seen = (row.mask[0, 0] == 0).int().tolist()
    assert seen == [
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 1, 1, 0],
        [1, 1, 0, 0, 1, 1, 1, 1],
    ]


def test_options_do_not_see_each_other() -> None:
    (row,) = packing.rows([Question(0, [1], [[2, 3], [4, 5]])], 0, 0, 99, torch.float32, CPU)
    assert row.ids.tolist() == [[1, 2, 4]] and row.positions.tolist() == [[0, 1, 1]]
    assert (row.mask[0, 0] == 0).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_rows_are_filled_and_a_long_question_stands_alone() -> None:
    questions = [Question(n, [1] * size, [[2], [3]]) for n, size in enumerate([4, 4, 30, 3, 3, 3])]
    rows = list(packing.rows(questions, 0, 0, 9, torch.float32, CPU))
    assert [[q.number for q in row.questions] for row in rows] == [[0, 1], [2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("head", "contexts", "expected"),
    [
        ([], [[1] * 200 + [2], [1] * 200 + [3, 4]], 200),
        ([], [[1] * 200, [1] * 200 + [3, 4]], 199),  # one token is left to read
        ([], [[1] * 200], 0),  # nobody to share with
        ([], [[1, 2], [1, 3]], 0),  # not worth a forward pass
        ([9] * 200, [[1, 2], [1, 3]], 1),
    ],
)
def test_common_prefix(head: list[int], contexts: list[list[int]], expected: int) -> None:
    questions = [Question(n, context, [[1], [2]]) for n, context in enumerate(contexts)]
    assert packing.common_prefix(Group(head, questions)) == expected


def test_length_of_rows_and_bounds() -> None:
    small, large = GPT2Config(n_embd=64), GPT2Config(n_embd=1600)
    assert packing.row_tokens(small, 0, CPU, 4096) == 256
    assert packing.row_tokens(large, 800, CPU, 4096) == (6 * 1600 + 800) // 8
    assert packing.row_tokens(large, 800, CPU, 512) == 512
    assert packing.exact_up_to(small) == 0
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert packing.exact_up_to(LlamaConfig(max_position_embeddings=128, rope_parameters=rope)) == 128
