"""What would be run twice is refused before anything is."""

from __future__ import annotations

import pytest

from hfcourse import recipe
from hfcourse.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("speech/methods --methods hubert apc hubert", "methods names hubert twice"),
        ("speech/methods --tasks phones phones", "tasks names phones twice"),
        ("speech/unseen --folds fsdd/a fsdd/b fsdd/b", "folds names fsdd/b twice"),
    ],
)
def test_names_are_given_once(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.parse(words.split())
