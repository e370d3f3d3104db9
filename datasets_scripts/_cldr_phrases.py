"""What one language says: names, and phrases by CLDR's patterns, each under a key that all languages share."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import NamedTuple

from babel import Locale, dates, lists, numbers, units
from babel.core import get_global
from num2words import num2words

from ._cldr_locales import number_language, root
from ._splits import share


class Said(NamedTuple):
    """What is said: the kind of phrase, the concept (``territory/DE``, ``date/2024-03-05``), and how it is worded."""

    kind: str
    concept: str
    form: str = ""


Phrases = Iterator[tuple[Said, str]]

# Marks that only steer the direction of writing.
_STEERING = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NO_PLACES = ("XA", "XB", "ZZ")  # territories for trying out programs, and the unknown one
_DAYS = (datetime.date(1900, 1, 1).toordinal(), datetime.date(2100, 1, 1).toordinal())
# How many are drawn. Small numbers are all there, larger ones in equal parts of each number of digits.
_DATES, _PARTS_OF_DATES, _TIMES, _MOMENTS, _NUMBERS, _MEASURES = 400, 120, 240, 400, 1000, 3
_SMALL, _MOST_DIGITS, _MOST_ORDINAL = 100, 6, 10_000
_COUNTS = (*range(1, 11), 12, 15, 20, 24, 30, 45, 60, 90)


def phrases(locale: Locale) -> dict[Said, str]:
    """All that a language says in words of its own: without what it only takes over from CLDR's root."""
    taken_over = _all(root())
    own = {said: text for said, text in _all(locale).items() if text}
    # Digits alone are nobody's own.
    return {said: text for said, text in own.items() if not has_letters(text) or text != taken_over.get(said)}


def has_letters(text: str) -> bool:
    """Whether any character is a letter."""
    return any(character.isalpha() for character in text)


def plain(text: str) -> str:
    """With ordinary spaces, and without marks that steer the direction of writing."""
    return " ".join(_STEERING.sub("", text).split())


def _all(locale: Locale) -> dict[Said, str]:
    makers = (_names, _cities, _units, _calendar, _dates, _times, _amounts, _spans, _numbers)
    return {said: plain(text) for maker in makers for said, text in maker(locale)}


def _names(locale: Locale) -> Phrases:
    tables = {
        "territory": locale.territories,
        "language": locale.languages,
        "script": locale.scripts,
        "currency": locale.currencies,
    }
    for kind, table in tables.items():
        for code in table:
            if code not in _NO_PLACES:
                yield Said(kind, f"{kind}/{code}"), table[code]


def _cities(locale: Locale) -> Phrases:
    """Those that time zones are called after; CLDR leaves out the English ones that can be read off a zone's name."""
    for zone in get_global("zone_territories"):
        city = locale.time_zones.get(zone, {}).get("city")
        if city is None and locale.language == "en" and "/" in zone:
            city = zone.rpartition("/")[2].replace("_", " ")
        if city is not None:
            yield Said("city", f"city/{zone}"), city


def _units(locale: Locale) -> Phrases:
    for unit in locale.unit_display_names:
        names = locale.unit_display_names[unit]
        if text := names.get("long") or names.get("short"):
            yield Said("unit", f"unit/{unit}"), text


def _calendar(locale: Locale) -> Phrases:
    for kind, table in {"month": locale.months, "day": locale.days, "quarter": locale.quarters}.items():
        for number, name in table["stand-alone"]["wide"].items():
            yield Said(kind, f"{kind}/{number}"), name


def _dates(locale: Locale) -> Phrases:
    for number in range(_DATES):
        day = _day(f"date {number}")
        for form in ("full", "long"):
            yield Said("date", f"date/{day}", form), dates.format_date(day, form, locale)
    for skeleton, name in {"MMMMd": "--%m-%d", "yMMMM": "%Y-%m"}.items():
        for number in range(_PARTS_OF_DATES if skeleton in locale.datetime_skeletons else 0):
            day = _day(f"{skeleton} {number}")
            text = dates.format_skeleton(skeleton, day, locale=locale)
            yield Said("date", f"date/{day.strftime(name)}", skeleton), text


def _times(locale: Locale) -> Phrases:
    for number in range(_TIMES):
        time = _time(f"time {number}")
        yield Said("time", f"time/{time:%H:%M}"), dates.format_time(time, "short", locale=locale)
    joined = dates.get_datetime_format("long", locale).replace("'", "")
    for number in range(_MOMENTS):
        moment = datetime.datetime.combine(_day(f"moment {number}"), _time(f"moment at {number}"))
        day = dates.format_date(moment, "long", locale)
        text = joined.replace("{1}", day).replace("{0}", dates.format_time(moment, "short", locale=locale))
        yield Said("datetime", f"datetime/{moment:%Y-%m-%dT%H:%M}"), text


def _amounts(locale: Locale) -> Phrases:
    """Money, and measures in any unit but those of time."""
    for code in locale.currencies:
        for count in (1, 2 + int(98 * share(f"money {code}"))):
            text = numbers.format_currency(count, code, locale=locale, currency_digits=False, format_type="name")
            yield Said("money", f"currency/{code}", str(count)), text
    for unit in locale.unit_display_names:
        drawn = [2 + int(98 * share(f"{unit} {number}")) for number in range(_MEASURES)]
        for count in _COUNTS if unit.startswith("duration-") else drawn:
            kind = "duration" if unit.startswith("duration-") else "measure"
            if text := _measure(locale, count, unit):
                yield Said(kind, f"{kind}/{count}-{unit.removeprefix('duration-')}"), text


def _measure(locale: Locale, count: int, unit: str) -> str | None:
    """A count of a unit, whose name is written out where the language does so at all."""
    found = (units.format_unit(count, unit, length, locale=locale) for length in ("long", "short"))
    return next((text for text in found if unit not in text), None)  # Babel falls back on CLDR's code of it


def _spans(locale: Locale) -> Phrases:
    """How far off something is: in 3 days, 3 days ago."""
    for unit, seconds in dates.TIMEDELTA_UNITS:
        for count in _COUNTS:
            for form, sign in {"in": 1, "ago": -1}.items():
                text = dates.format_timedelta(
                    datetime.timedelta(seconds=sign * count * seconds),
                    granularity=unit,
                    threshold=float("inf"),  # in this unit, not in a larger one
                    add_direction=True,
                    locale=locale,
                )
                yield Said("relative", f"duration/{count}-{unit}", form), text


def _numbers(locale: Locale) -> Phrases:
    """Numbers in words; of a language that num2words does not know, none."""
    language = number_language(locale)
    for number in _drawn_numbers() if language else ():
        words = _in_words(number, language, "cardinal")
        yield Said("number", f"number/{number}"), words
        ordinal = _in_words(number, language, "ordinal") if 0 < number <= _MOST_ORDINAL else ""
        # Some languages have no ordinals there, and give the number again.
        yield Said("ordinal", f"number/{number}"), "" if ordinal == words else ordinal


def _in_words(number: int, language: str | None, to: str) -> str:
    """Empty where num2words does not have it; each of its languages fails in a way of its own."""
    try:
        words = str(num2words(number, lang=language, to=to))
    except Exception:
        return ""
    return "" if any(character.isdigit() for character in words) else words


def _drawn_numbers() -> list[int]:
    drawn = set(range(_SMALL + 1))
    for number in range(_NUMBERS):
        digits = 3 + number % (_MOST_DIGITS - 2)
        drawn.add(10 ** (digits - 1) + int(9 * 10 ** (digits - 1) * share(f"number {number}")))
    return sorted(drawn)


def _day(name: str) -> datetime.date:
    return datetime.date.fromordinal(_DAYS[0] + int((_DAYS[1] - _DAYS[0]) * share(name)))


def _time(name: str) -> datetime.time:
    minutes = int(24 * 60 * share(name))
    return datetime.time(minutes // 60, minutes % 60)


def joined(names: list[str], style: str, locale: Locale) -> str:
    """A list of names, in ``standard`` style (and) or with ``or``."""
    return plain(lists.format_list(names, style, locale))


def joins(style: str, locale: Locale) -> bool:
    """Whether a language has a word of its own for a style of lists (CLDR's root has the English ``or``)."""
    return (
        locale.language == "en" or style != "or" or joined(["1", "2"], "or", locale) != joined(["1", "2"], "or", root())
    )
