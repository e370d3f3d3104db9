"""Docstrings taken apart: paragraphs of prose, and entries about parameters and exceptions, in the usual styles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """What a docstring says about one parameter, or about one exception (then `kind` is empty)."""

    section: str
    """``parameters`` or ``raises``."""
    name: str
    kind: str
    """Its type as written, with ``optional`` and defaults; may be empty."""
    text: str


class Line(NamedTuple):
    """One line, with the spaces before it counted."""

    indent: int
    text: str


_SECTIONS = {
    **dict.fromkeys(("parameters", "args", "arguments", "other parameters", "keyword args", "params"), "parameters"),
    **dict.fromkeys(("keyword arguments", "attributes", "inputs", "input"), "parameters"),
    **dict.fromkeys(("raises", "exceptions"), "raises"),
    **dict.fromkeys(("see also", "references", "methods"), "dropped"),
    **dict.fromkeys(("returns", "return", "yields", "examples", "example", "notes", "note", "usage", "warns"), "prose"),
    **dict.fromkeys(("warning", "warnings", "shape", "outputs", "output", "receives", "usage example"), "prose"),
}
_LITERAL = re.compile(
    r"\.\. (code|code-block|math|plot|image|figure|testcode|testoutput|doctest|autosummary|csv-table|list-table|table"
    r"|ipython|sourcecode|prompt|jupyter-execute|include|currentmodule|toctree|index|\[|_|deprecated|versionadded"
    r"|versionchanged)"
)
_RULE = re.compile(r"^[=~^\-+|*#.:_<>/\\\s]{3,}$")
_BULLET = re.compile(r"(?:[-*+\u2022]|\d{1,2}[.)])\s+")
_NUMPY = re.compile(r"(\*{0,2}\w+(?:, ?\*{0,2}\w+)*)\s+:\s*(\S.*)?$")
_GOOGLE = re.compile(r"[`*]{0,2}(\w+)[`*]{0,2}\s*(?:\((.*?)\))?\s*:(?=\s|$)\s*(.*)$")
_SPHINX = re.compile(r":(param|arg|argument|raises|raise|exception)\s+(?:([^:]+?)\s+)?(\*{0,2}[\w.]+):\s*(.*)$")
# As above, where only the type's own marks tell it from prose.
_TYPED = re.compile(r"(\w+)\s\((`[^()]*(?:\([^()]*\)[^()]*)*)\)\s*:(?=\s|$)\s*(.*)$")
_EXCEPTION = re.compile(r"[`:~\w.]*?(\w*(?:Error|Exception|Warning|Interrupt|Iteration|Exit))`*\s*(?::\s*(.*))?$")


def parse(doc: str) -> tuple[list[str], list[Entry]]:
    """Paragraphs and entries of a cleaned docstring, markup inside the lines still in place.

    Code, doctests, formulas, tables, rules, and lists of related functions are left out.
    """
    paragraphs: list[str] = []
    entries: list[Entry] = []
    for section, lines in _sections(_without_blocks(doc)):
        if section in {"parameters", "raises"}:
            found, rest = _entries(section, lines)
            entries += found
            paragraphs += _paragraphs(rest)
        elif section == "prose":
            found, rest = _lone_entries(lines)
            entries += found
            paragraphs += _paragraphs(rest)
    return paragraphs, entries


def _without_blocks(doc: str) -> list[Line]:
    """Lines without fenced code, doctests, literal blocks and tables; blank ones are kept."""
    kept: list[Line] = []
    fenced, skipped_past = False, -1
    in_example = in_table = False
    for raw in doc.expandtabs(4).split("\n"):
        text = raw.strip()
        indent = len(raw) - len(raw.lstrip(" "))
        if text.startswith("```") or text.startswith("~~~"):
            fenced = not fenced and text.count("```") < 2
            continue
        if not text:
            in_example = in_table = False
        if fenced or (skipped_past >= 0 and (not text or indent > skipped_past)):
            kept.append(Line(0, ""))
            continue
        skipped_past = -1
        in_example = in_example or text.startswith((">>>", "$ "))
        in_table = in_table or text.startswith(("+--", "+==", "|")) or bool(re.match(r"=+(\s+=+)+$", text))
        if in_example or in_table or re.fullmatch(r"\{\w+\}", text):
            continue
        if _LITERAL.match(text):
            skipped_past = indent
            continue
        if text.endswith("::"):
            skipped_past = indent
            text = "" if text.startswith("..") else text[:-1]
        kept.append(Line(indent, text))
    return kept


def _sections(lines: list[Line]) -> Iterator[tuple[str, list[Line]]]:
    """Stretches under one heading; headings and the rules below them are left out."""
    name, held, number = "prose", [], 0
    inside = 0  # a section of Google's style ends where the indent goes back to its heading's
    while number < len(lines):
        line = lines[number]
        word = line.text.strip(":*#` ").lower()
        below = lines[number + 1].text if number + 1 < len(lines) else ""
        underlined = bool(line.text) and len(below) >= 3 and bool(_RULE.match(below)) and not _RULE.match(line.text)
        heading = word in _SECTIONS and (underlined or line.text.endswith(":"))
        if heading or underlined:
            yield name, held
            name, held, inside = _SECTIONS.get(word, "prose"), [], -1 if underlined else line.indent
            number += 2 if underlined else 1
            continue
        if name != "prose" and inside >= 0 and line.text and line.indent <= inside and not _SPHINX.match(line.text):
            yield name, held
            name, held = "prose", []
        if not (line.text and _RULE.match(line.text)):
            held.append(line)
        number += 1
    yield name, held


def _entries(section: str, lines: list[Line]) -> tuple[list[Entry], list[Line]]:
    """Entries of one section; lines that belong to none come back."""
    written = [line for line in lines if line.text]
    if not written:
        return [], []
    outer = min(line.indent for line in written)
    entries: list[Entry] = []
    rest: list[Line] = []
    body: list[str] | None = None
    heads: list[tuple[list[str], str, list[str]]] = []
    for line in lines:
        head = _head(section, line.text) if line.text and line.indent == outer else None
        if head is not None:
            names, kind, first = head
            body = [first] if first else []
            heads.append((names, kind, body))
        elif line.text and line.indent > outer and body is not None:
            body.append(line.text)
        elif line.text:
            body = None
            rest.append(line)
    for names, kind, body in heads:
        # ``name: kind`` and the text below it, in NumPy's style but for a missing space.
        if not kind and len(body) > 1 and body[0][:1].islower() and body[1][:1].isupper() and len(body[0].split()) < 7:
            kind, body = body[0], body[1:]
        entries += [Entry(section, name, kind.strip(), " ".join(body)) for name in names]
    return entries, rest


def _head(section: str, text: str) -> tuple[list[str], str, list[str] | str] | None:
    """Names, type and first words of an entry's first line, if it is one."""
    if section == "raises":
        match = _EXCEPTION.match(text)
        return ([match[1]], "", match[2] or "") if match else None
    match = _NUMPY.match(text)
    if match:
        return [name.strip(" *") for name in match[1].split(",")], match[2] or "", ""
    match = _GOOGLE.match(text)
    if match:
        return [match[1]], match[2] or "", match[3]
    return ([text.strip("*`")], "", "") if re.fullmatch(r"[*`]{0,2}\w+[*`]{0,2}", text) else None


def _lone_entries(lines: list[Line]) -> tuple[list[Entry], list[Line]]:
    """Entries outside any section: ``:param kind name: text``, ``name (`kind`): text``, and what is indented below."""
    entries: list[Entry] = []
    rest: list[Line] = []
    open_at = -1
    for line in lines:
        sphinx, typed = _SPHINX.match(line.text), _TYPED.match(line.text)
        if sphinx:
            section = "raises" if sphinx[1] in {"raises", "raise", "exception"} else "parameters"
            entries.append(Entry(section, sphinx[3].lstrip("*"), sphinx[2] or "", sphinx[4]))
        elif typed:
            entries.append(Entry("parameters", typed[1], typed[2], typed[3]))
        elif open_at >= 0 and line.text and line.indent > open_at:
            entries[-1] = entries[-1]._replace(text=f"{entries[-1].text} {line.text}".strip())
            continue
        elif not line.text.startswith((":return", ":rtype", ":type", ":yield")):
            rest.append(line)
        open_at = line.indent if sphinx or typed else -1
    return entries, rest


def _paragraphs(lines: list[Line]) -> list[str]:
    """What stands between blank lines, wrapped lines joined; the items of a list keep a line each."""
    paragraphs: list[str] = []
    held = ""
    for line in [*lines, Line(0, "")]:
        if not line.text:
            if held:
                paragraphs.append(held)
            held = ""
        else:
            held += ("\n" if _BULLET.match(line.text) else " ") * bool(held) + line.text
    return paragraphs


_ROLE = re.compile(r":[a-z][\w:+-]*:`[~!]?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"(?<![\w`])\[`?([^\]\[`]+)`?\]\([^)\s]*\)|`([^`<]+?)\s*<[^`>]*>`_+")
_REFERENCE = re.compile(r"\[`([^\]\[`]+)`\]|\s?\[[\d\w]{1,10}\]_")
_MARKED = re.compile(r"``([^`\n]+)``|`([^`\n]+)`|\*\*(\w[^*\n]*)\*\*|(?<![\w*])\*(\w[^*\n]*)\*(?!\w)")
_HTML = re.compile(r"</?[a-zA-Z][\w-]*(?:\s[^<>]*)?/?>|\\\\(?=\s|$)")
_NO_LETTERS = re.compile(r"[^A-Za-z]+")
_PLAIN = re.compile(r"[(\"']*[A-Za-z][a-z'-]*[.,;:!?)]*$")
_RIGHTS = re.compile(r"copyright|licen[sc]ed? (?:under|agreement)|all rights reserved|apache license", re.IGNORECASE)


def clean(text: str, mark: str = "") -> str:
    """Text without markup; each piece that was quoted as code or emphasised begins with `mark`."""
    if any(sign in text for sign in "`*<[\\"):
        text = _ROLE.sub(r"`\1`", text)
        text = _LINK.sub(lambda match: match[1] or f"`{match[2]}`", text)
        text = _REFERENCE.sub(lambda match: f"`{match[1]}`" if match[1] else "", text)
        text = _MARKED.sub(lambda match: mark + next(group for group in match.groups() if group), text)
        text = _HTML.sub("", text).replace("`", "")
    return re.sub(r"[ \t]+", " ", text).strip()


def first_sentence(text: str) -> str:
    """Up to the first full stop, on one line; a full stop inside ``e.g.`` or a name ends nothing."""
    text = " ".join(text.split())
    for match in re.finditer(r"[.!?](?=\s+[A-Z(\"']|$)", text):
        if not re.search(r"\b(?:e\.g|i\.e|etc|cf|vs|resp|[A-Z])\.$", text[: match.end()]) or match.end() == len(text):
            return text[: match.end()]
    return text


def is_english(text: str) -> bool:
    """A rough test that keeps prose and drops formulas, code, rights notices and other scripts."""
    words = text.split()
    if len(words) < 4 or len(_NO_LETTERS.sub("", text)) < 0.7 * sum(map(len, words)) or _RIGHTS.search(text):
        return False
    return sum(map(bool, map(_PLAIN.match, words))) >= 0.5 * len(words)


_LONGEST_TYPE = 8
_NOT_TYPE = re.compile(r"[,;.]?\s*\(?(?:\*?optional\*?|defaults?\b|required).*$", re.IGNORECASE)


def type_of(kind: str) -> str:
    """A type as written, without ``optional``, defaults, shapes and markup; empty if it is a whole sentence."""
    text = _NOT_TYPE.sub("", clean(kind))
    text = re.sub(r"\s+of (?:shape|length|size)\b.*$|,?\s*shape\s*[=(].*$", "", text).strip(" ,;:.")
    return text if len(text.split()) <= _LONGEST_TYPE and text.count("(") == text.count(")") else ""
