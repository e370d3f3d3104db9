"""Every command of the documentation is one that the command line takes: its recipe, variants, settings and values."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hfcourse import recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/*.md"), *ROOT.glob("recipes/*/*.py")]
COMMAND = re.compile(r"hfcourse (?:run|suite|show) (?:[^`\n\\]|\\\n)+")


def commands() -> list[tuple[str, ...]]:
    """Words of each command, without the comment behind it; not those that stand for several ("...", "a | b")."""
    found = set()
    for page in PAGES:
        for text in COMMAND.findall(page.read_text()):
            if not re.search(r"\.\.\.|\||--config|NAME|\.py\b|\$|;", text):
                found.add(tuple(shlex.split(text.replace("\\\n", " "), comments=True)[1:]))
    return sorted(found)


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_documented_command_is_understood(command: tuple[str, ...]) -> None:
    verb, *words = command
    if verb == "suite":
        words = ["gpt/in_context", *words[1:]] if words[0] == "fewshot" else ["bert/suite", *words]
    recipe.parse(words)


def test_there_are_commands() -> None:
    assert len(commands()) > 60
