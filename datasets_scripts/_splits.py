"""Which split of pydocs a module belongs to, and draws that are the same on every machine."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._docstrings import STANDARD

Record = dict[str, Any]

_STANDARD_SHARE = 0.06
_TOPIC_SHARE = 0.07
_OVERFULL = 1.2


@dataclass(frozen=True)
class Plan:
    """Which packages are a class of ``topic``, and which are kept for testing."""

    topics: tuple[str, ...]
    test: frozenset[str]
    dev: frozenset[str]

    def split_of(self, package: str, module: str) -> str:
        """The split of a module for all configs but ``topic``: its top-level package decides."""
        if package in self.test:
            return "test"
        if package in self.dev:
            return "dev"
        if package == STANDARD:
            drawn = share(f"{package}/{module.split('.')[0]}")
            return "test" if drawn < _STANDARD_SHARE else "dev" if drawn < 2 * _STANDARD_SHARE else "train"
        return "train"

    def topic_splits(self, table: list[Record]) -> dict[tuple[str, str], str]:
        """The split of each module file for ``topic``: about the same share of every package.

        Modules are taken in a drawn order until a split has its share; one that alone would fill it stays in train.
        """
        sizes = Counter((record["package"], record["module"]) for record in table if record["package"] in self.topics)
        splits = {}
        for package in self.topics:
            modules = sorted((m for p, m in sizes if p == package), key=lambda m: share(f"topic/{package}/{m}"))
            wanted = _TOPIC_SHARE * sum(sizes[package, module] for module in modules)
            filled = {"test": 0, "dev": 0}
            for module in modules:
                size = sizes[package, module]
                room = [name for name, held in filled.items() if held < wanted and held + size <= _OVERFULL * wanted]
                splits[package, module] = room[0] if room else "train"
                if room:
                    filled[room[0]] += size
        return splits


def plan_of(data_dir: str | None) -> Plan:
    """What is installed has a fixed plan; of a folder of packages the last one is for test, the one before for dev."""
    if data_dir is None:
        return _INSTALLED
    names = sorted(path.name for path in Path(data_dir).iterdir() if path.is_dir())
    return Plan(tuple(names), frozenset(names[2:][-1:]), frozenset(names[1:-1][-1:]))


def share(key: str) -> float:
    """A fixed number in [0, 1) for a name."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48


def sampled(rows: list[Record], cap: int) -> list[Record]:
    """At most `cap` rows, in an order that has nothing to do with where they come from."""
    return sorted(rows, key=lambda row: hashlib.sha256(json.dumps(row).encode()).digest())[:cap]


# Classes of ``topic`` are the packages large enough.
_INSTALLED = Plan(
    topics=(
        "huggingface_hub",
        "matplotlib",
        "networkx",
        "numpy",
        "pandas",
        STANDARD,
        "scipy",
        "sklearn",
        "sympy",
        "torch",
        "transformers",
    ),
    test=frozenset({"networkx", "datasets", "accelerate", "aiohttp"}),
    dev=frozenset({"huggingface_hub", "peft", "joblib", "fsspec"}),
)
