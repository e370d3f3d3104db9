"""Templates read a row and nothing else; what they cannot do is one line."""

from __future__ import annotations

import pytest

from hfcourse.errors import ConfigError, DataError
from hfcourse.prompting import rendering

ROW = {"sentence1": "A b.", "sentence2": "C", "label": 1, "options": ["x", "y"]}


def test_a_template_a_column_and_a_value() -> None:
    assert rendering.value("{{sentence1}}\nQ: {{ sentence2 | lower }}\n", ROW, "here") == "A b.\nQ: c\n"
    assert rendering.value("label", ROW, "here") == 1  # the column as it is, no text
    assert rendering.value(3, ROW, "here") == 3
    assert rendering.value(lambda row: row["options"][1], ROW, "here") == "y"


def test_digits_and_lists_only_where_they_are_asked_for() -> None:
    assert rendering.value("{{label}}", ROW, "here") == "1"
    assert rendering.value("{{label}}", ROW, "here", numbers=True) == 1
    assert rendering.value("{{x}} ", {"x": "²"}, "here", numbers=True) == "² "
    assert rendering.value("{{x + ''}}", {"x": "²"}, "here", numbers=True) == "²"  # a digit, and no number
    assert rendering.value("{{options}}", ROW, "here") == "['x', 'y']"
    assert rendering.value("{{options}}", ROW, "here", lists=True) == ["x", "y"]
    assert rendering.value("[not a list]", ROW, "here", lists=True) == "[not a list]"


def test_choices_come_from_a_column_a_template_or_the_file() -> None:
    for field in ("options", "{{options}}", ("x", "y")):
        assert rendering.choices(field, ROW, "here") == ["x", "y"]
    for field in (" {{options}}\n", "({{ options | map('tojson') | join(', ') }})", "written"):
        assert rendering.choices(field, ROW | {"written": "['x', 'y'] "}, "here") == ["x", "y"]
    with pytest.raises(DataError, match="expected a list of choices"):
        rendering.choices("{{sentence1}}", ROW, "here")


def test_the_harness_own_filter() -> None:
    assert rendering.render("{{ sentence1 | regex_replace('[.]', '!') }}", ROW, "here") == "A b!"


def test_an_unknown_column_is_named_with_the_nearest_and_all_others() -> None:
    with pytest.raises(DataError) as error:
        rendering.render("{{sentence3}} and", ROW, "task t, text")
    message = str(error.value)
    assert "task t, text" in message and "'sentence3'" in message and "did you mean 'sentence2', 'sentence1'" in message
    assert "columns: sentence1, sentence2, label, options" in message and "{{sentence3}} and" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "source",
    [
        "{{ sentence1.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ options.append('z') }}",  # rows stay as they are
        "{{ cycler.__init__.__globals__.os }}",
    ],
)
def test_the_sandbox_lets_nothing_out(source: str) -> None:
    with pytest.raises((ConfigError, DataError)) as error:
        rendering.render(source, ROW, "here")
    assert "\n" not in str(error.value)
    assert ROW["options"] == ["x", "y"]


def test_what_values_cannot_do_and_what_is_no_template() -> None:
    with pytest.raises(DataError, match=r"here: .*in '{{ label / 0 }}'"):
        rendering.render("{{ label / 0 }}", ROW, "here")
    with pytest.raises(ConfigError, match="not a Jinja template"):
        rendering.check("{{ open ", "here")
