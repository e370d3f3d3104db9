"""Languages of Babel's CLDR tables, by BCP 47 tags such as ``en`` or ``zh-Hant``, and what num2words calls them."""

from __future__ import annotations

import difflib

from babel import Locale, localedata
from num2words import CONVERTER_CLASSES

# Where num2words does not go by CLDR's code, or writes another script than CLDR's first one.
_NUMBERS = {"nb": "no", "kk": "kz"}
_SCRIPTS = {"sr": "Latn"}


def opened(tag: str) -> Locale:
    """A language's tables.

    Raises:
        ValueError: no such language; the nearest ones are named.
    """
    names = {name.replace("_", "-").lower(): name for name in localedata.locale_identifiers()}
    if tag.lower() not in names:
        raise ValueError(f"unknown language {tag!r}: {_hint(tag, names)}")
    return _own(names[tag.lower()])


def root() -> Locale:
    """What stands in for all that a language lacks."""
    return _own("root")


def _own(name: str) -> Locale:
    """Tables that nobody shares.

    Babel writes what it resolves back into tables that all languages share (its issue 1234), so that what one says
    depends on who was asked before.
    """
    localedata._cache.clear()
    locale = Locale(name) if name == "root" else Locale.parse(name)
    _ = locale.territories  # read now, while nobody else has read any
    localedata._cache.clear()
    return locale


def number_language(locale: Locale) -> str | None:
    """Under which name num2words knows a language, in the script of its tables; None where it does not."""
    if locale.script != _SCRIPTS.get(locale.language):
        return None
    language = _NUMBERS.get(locale.language, locale.language)
    return next((name for name in (f"{language}_{locale.territory}", language) if name in CONVERTER_CLASSES), None)


def _hint(tag: str, names: dict[str, str]) -> str:
    """The nearest tags, by the tags or by the languages' English names."""
    english = opened("en").languages
    known = {tag: tag for tag in names} | {english[name].lower(): tag for tag, name in names.items() if name in english}
    near = difflib.get_close_matches(tag.lower(), known, n=3, cutoff=0.5)
    tags = dict.fromkeys(names[known[name]].replace("_", "-") for name in near)
    return f"did you mean {', '.join(tags)}?" if tags else "give a tag such as en, pt-PT or zh-Hant"
