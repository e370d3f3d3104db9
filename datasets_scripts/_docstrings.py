"""Docstrings, signatures and sources of installed Python packages, read with `ast`; nothing is imported."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# The package's own dependencies and what those bring along. What is not installed is left out.
PACKAGES = (
    "accelerate",
    "aiohttp",
    "datasets",
    "dill",
    "evaluate",
    "fsspec",
    "httpx",
    "huggingface_hub",
    "jinja2",
    "joblib",
    "matplotlib",
    "networkx",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "requests",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "sympy",
    "tokenizers",
    "torch",
    "torchaudio",
    "tqdm",
    "transformers",
)
STANDARD = "python"
_SKIPPED = {
    "test",
    "tests",
    "testing",
    "_vendor",
    "vendored",
    "site-packages",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "encodings",
    "__pycache__",
}
_EXCEPTIONS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}
_LONGEST_SOURCE = 1500

Record = dict[str, Any]


def source_files(data_dir: str | None) -> list[tuple[str, str, Path]]:
    """(package, module, file) of everything to be read, in a fixed order.

    With `data_dir`, each folder in it is a package; otherwise `PACKAGES` and the standard library.
    """
    roots: list[tuple[str, Path]] = []
    if data_dir is not None:
        roots = [(path.name, path) for path in sorted(Path(data_dir).iterdir()) if path.is_dir()]
    else:
        for name in PACKAGES:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.submodule_search_locations:
                roots.append((name, Path(next(iter(spec.submodule_search_locations)))))
        roots.append((STANDARD, Path(sysconfig.get_paths()["stdlib"])))
    files = []
    for package, root in roots:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if not set(parts) & _SKIPPED:
                files.append((package, ".".join(part for part in parts if part != "__init__") or package, path))
    return files


def read_all(data_dir: str | None) -> list[Record]:
    """Every docstring of every file: see `read_file` for the fields. In parallel; the order is fixed."""
    files = source_files(data_dir)
    if len(files) < 200:
        return [record for file in files for record in read_file(file)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return [record for records in pool.map(read_file, files, chunksize=100) for record in records]


def read_file(file: tuple[str, str, Path]) -> list[Record]:
    """One file's docstrings in order: package, module, name, kind, doc, parameters, raises, source."""
    package, module, path = file
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []
    where = {"package": package, "module": module}
    if module == "pydoc_data.topics":
        return [where | topic for topic in _language_reference(tree)]
    return [where | record for record in _records(tree, text, "")]


def _records(node: ast.AST, text: str, prefix: str) -> Iterator[Record]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        name = getattr(node, "name", "")
        doc = ast.get_docstring(node)
        if doc and len(doc) >= 20:
            yield _record(node, text, prefix + name, doc)
        prefix = f"{prefix}{name}." if name else ""
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _records(child, text, prefix)


def _record(node: Any, text: str, name: str, doc: str) -> Record:
    record: Record = {"name": name, "kind": "function", "doc": doc, "parameters": [], "raises": [], "source": ""}
    if isinstance(node, ast.Module):
        return record | {"kind": "module"}
    function = node
    if isinstance(node, ast.ClassDef):
        record["kind"] = "class"
        function = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if function is not None:
        record["parameters"] = _parameters(function.args)
        record["raises"] = sorted(set(_raised(function)))
    if record["kind"] == "function":
        record["source"] = _source(node, text)
    return record


def _parameters(arguments: ast.arguments) -> list[dict[str, str]]:
    """Name, annotation and default of each parameter but self and cls; absent ones are empty."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    every = [*zip(plain, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [
        {
            "name": argument.arg,
            "annotation": ast.unparse(argument.annotation) if argument.annotation else "",
            "default": ast.unparse(default) if default is not None else "",
        }
        for argument, default in every
        if argument.arg not in {"self", "cls", "mcs"} and not argument.arg.startswith("_")
    ]


def _raised(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(called, ast.Name) and (called.id in _EXCEPTIONS or called.id.endswith("Error")):
                yield called.id


def _source(function: Any, text: str) -> str:
    """A function's code without its docstring; empty if it is long or nothing but the docstring."""
    if len(function.body) < 2:
        return ""
    lines = text.split("\n")
    head = lines[function.lineno - 1 : function.body[0].lineno - 1]
    body = lines[function.body[0].end_lineno : function.end_lineno]
    indent = len(head[0]) - len(head[0].lstrip()) if head else 0
    source = "\n".join(line[indent:] for line in head + body)
    return source if len(source) <= _LONGEST_SOURCE else ""


def _language_reference(tree: ast.Module) -> Iterator[Record]:
    """The texts of `pydoc_data.topics`: Python's language reference as a dict literal."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for name, doc in ast.literal_eval(node.value).items():
                empty: Record = {"parameters": [], "raises": [], "source": ""}
                yield {"name": name, "kind": "topic", "doc": doc} | empty


_ROLE = re.compile(r":[\w:]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"\[`?([^\]`]+)`?\](?:\([^)]*\))?|`([^`<]+?)\s*<[^`>]*>`_+")
_MARKS = re.compile(r"`+|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")
_DRAWN = re.compile(r"^[\s=~^\-+|*#.:_<>/\\]*$")


def prose(doc: str) -> str:
    """A docstring without doctests, tables, rules and markup; paragraphs stay apart by blank lines."""
    kept: list[str] = []
    in_example = False
    for line in doc.split("\n"):
        bare = line.strip()
        if bare.startswith((">>>", "...", "$ ", "```")):
            in_example = bare != "```"
            continue
        if not bare:
            in_example = False
        if in_example or bare.startswith((".. ", "|", "+--", "!!!", "<")) or (bare and _DRAWN.match(bare)):
            continue
        kept.append(bare)
    text = _ROLE.sub(r"\1", "\n".join(kept))
    text = _LINK.sub(lambda match: match[1] or match[2], text)
    text = _MARKS.sub("", text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def first_sentence(text: str) -> str:
    """Up to the first full stop or blank line, on one line."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    match = re.match(r"(.+?[.!?])(?=\s+[A-Z(]|$)", paragraph)
    return match[1] if match else paragraph


def is_english(text: str) -> bool:
    """A rough test that keeps prose and drops formulas, licence blocks and other scripts."""
    letters = sum(character.isalpha() and character.isascii() for character in text)
    return len(text.split()) >= 4 and letters >= 0.65 * len(text.replace(" ", ""))


def signature(record: Record) -> str:
    """``name(first, second=1)`` as one would write it."""
    parts = [p["name"] + (f"={p['default']}" if p["default"] else "") for p in record["parameters"]]
    return f"{record['name'].split('.')[-1]}({', '.join(parts)})"
