"""Docstrings, signatures and sources of installed Python packages, read with `ast`; nothing is imported."""

from __future__ import annotations

import ast
import builtins
import gc
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from . import _prose

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
_FEWEST_FOR_WORKERS = 500

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
    """Every docstring of every file: see `read_file` for the fields. In parallel; the order is fixed.

    The workers are processes of this module alone: they see nothing of the caller's main script, so a script of a few
    lines without a main guard may call this.

    Raises:
        OSError: a worker died.
    """
    files = source_files(data_dir)
    workers = _workers()
    if workers == 1 or len(files) < _FEWEST_FOR_WORKERS:
        return [record for file in files for record in read_file(file)]
    results: list[list[Record]] = [[] for _ in files]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for number in range(workers):
            jobs = Path(folder, f"{number}.in")
            jobs.write_text(json.dumps([(package, name, str(path)) for package, name, path in files[number::workers]]))
            with jobs.open("rb") as given, Path(folder, f"{number}.out").open("wb") as answers:
                command = [sys.executable, "-m", __name__]
                started.append(subprocess.Popen(command, stdin=given, stdout=answers, env=environment))
        for number, process in enumerate(started):
            if process.wait() != 0:
                raise OSError(f"reading the installed sources failed: a worker ended with {process.returncode}")
            results[number::workers] = json.loads(Path(folder, f"{number}.out").read_bytes())
    return [record for records in results for record in records]


def _workers() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def read_file(file: tuple[str, str, Path]) -> list[Record]:
    """One file's docstrings in order.

    Fields: package, module, name, kind (module, class, function, topic or text), doc, paragraphs and entries (see
    `_prose.parse`), parameters, raises, source. A file that is no Python of today gives none.
    """
    package, module, path = file
    try:
        text = path.read_text(encoding="utf-8")
        if not ('"""' in text or "'''" in text):
            return []
        with warnings.catch_warnings():  # escapes like "\d" in the sources of others
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return []
    lines = text.split("\n")
    found = _language_reference(tree) if module == "pydoc_data.topics" else _records(tree, lines, "")
    records = []
    for record in found:
        paragraphs, entries = _prose.parse(record["doc"])
        parts = {"paragraphs": paragraphs, "entries": [entry._asdict() for entry in entries]}
        records.append({"package": package, "module": module} | record | parts)
    return records


def _records(node: ast.AST, lines: list[str], prefix: str) -> Iterator[Record]:
    """The docstrings of a module, class or function and of what is defined right inside it."""
    name = getattr(node, "name", "")
    doc = ast.get_docstring(node)  # type: ignore[arg-type]
    if doc and len(doc) >= 20:
        yield _record(node, lines, prefix + name, doc)
    prefix = f"{prefix}{name}." if name else ""
    for child in node.body:  # type: ignore[attr-defined]
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _records(child, lines, prefix)
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _added(child.value)


def _added(call: ast.Call) -> Iterator[Record]:
    """Docstrings given to compiled functions: ``add_docstr(torch.abs, "...")``, ``add_newdoc("numpy", ...)``."""
    if not re.search(r"add_\w*doc", ast.unparse(call.func)):
        return
    for argument in call.args:
        texts = [node.value for node in ast.walk(argument) if isinstance(node, ast.Constant)]
        doc = max((text for text in texts if isinstance(text, str)), key=len, default="")
        if len(doc) >= 40:
            name = ast.unparse(call.args[0]).strip("'\"")
            yield {
                "name": name,
                "kind": "text",
                "doc": inspect.cleandoc(doc),
                "parameters": [],
                "raises": [],
                "source": "",
            }


def _record(node: Any, lines: list[str], name: str, doc: str) -> Record:
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
        record["source"] = _source(node, lines)
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


def _raised(node: ast.AST) -> Iterator[str]:
    """Exceptions raised in a function's statements; looking into expressions as well would take most of the time."""
    for block in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, block, ()):
            yield from _raised(child)
    if isinstance(node, ast.Raise) and node.exc is not None:
        called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if isinstance(called, ast.Name) and (called.id in _EXCEPTIONS or called.id.endswith("Error")):
            yield called.id


def _source(function: Any, lines: list[str]) -> str:
    """A function's code without its docstring; empty if it is long or nothing but the docstring."""
    if len(function.body) < 2 or function.body[0].lineno == function.lineno:
        return ""
    head = lines[function.lineno - 1 : function.body[0].lineno - 1]
    body = lines[function.body[0].end_lineno : function.end_lineno]
    source = textwrap.dedent("\n".join(head + body)).strip("\n")
    return source if len(source) <= _LONGEST_SOURCE else ""


def _language_reference(tree: ast.Module) -> Iterator[Record]:
    """The texts of `pydoc_data.topics`: Python's language reference as a dict literal."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for name, doc in ast.literal_eval(node.value).items():
                empty: Record = {"parameters": [], "raises": [], "source": ""}
                yield {"name": name, "kind": "topic", "doc": doc} | empty


def signature(record: Record, names: Collection[str] | None = None) -> str:
    """``name(first, second=1)`` as one would write it; with `names`, of these parameters alone."""
    chosen = [p for p in record["parameters"] if names is None or p["name"] in names]
    parts = [p["name"] + (f"={p['default']}" if p["default"] else "") for p in chosen]
    return f"{record['name'].split('.')[-1]}({', '.join(parts)})"


if __name__ == "__main__":
    gc.disable()  # trees have no cycles, and looking for some takes a third of the time
    json.dump([read_file((package, module, Path(path))) for package, module, path in json.load(sys.stdin)], sys.stdout)
