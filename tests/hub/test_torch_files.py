"""Files of torch.save are read as torch reads them, and nothing that stands in them is run."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import subprocess
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hfcourse.errors import ModelError
from hfcourse.hub.torch_files import Record, StoredTensor, opened, plain

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Choice(Enum):
    group = "group"  # named as its value, as fairseq has it


class Node:
    """Stands for one of omegaconf's."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Evil:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> Any:
        return self.call


def save(content: Any, place: Path, *, zipped: bool = True) -> Path:
    torch.save(content, place, _use_new_zipfile_serialization=zipped)
    return place


@FORMATS
def test_tensors_are_those_that_torch_reads(tmp_path: Path, zipped: bool) -> None:
    shared = torch.arange(24.0)
    content = {
        "net": nn.Linear(3, 4).state_dict(),
        "views": [shared[4:10:2], shared.view(4, 6).T, shared],
        "types": [torch.arange(5).to(dtype) for dtype in (torch.half, torch.bfloat16, torch.int64, torch.bool)],
        "parameter": nn.Parameter(torch.ones(2)),
        "none": torch.empty(0),
        "number": torch.tensor(3.5),
    }
    place = save(content, tmp_path / "a.pt", zipped=zipped)
    theirs = torch.load(place)
    with opened(place) as found:
        assert type(found["net"]) is collections.OrderedDict
        for name in ("weight", "bias"):
            assert torch.equal(found["net"][name].load(), theirs["net"][name])
        for name in ("views", "types"):
            for one, their in zip(found[name], theirs[name], strict=True):
                assert one.shape == their.shape and one.dtype == their.dtype and torch.equal(one.load(), their)
        for name in ("parameter", "none", "number"):
            assert torch.equal(found[name].load(), theirs[name])


@FORMATS
def test_settings_of_unknown_classes_become_plain(tmp_path: Path, zipped: bool) -> None:
    value = Node(_val=7, _parent=None, _metadata="m")
    config = Node(_content={"dim": value, "inner": Node(_content=[value, Node(_val="x")])}, _metadata=None)
    content = {
        "args": argparse.Namespace(layers=3, mode=Choice.group, words=["a"]),
        "cfg": config,
        "counts": collections.Counter("aab"),
        "defaults": collections.defaultdict(list, a=[1]),
    }
    with opened(save(content, tmp_path / "a.pt", zipped=zipped)) as found:
        assert isinstance(found["args"], Record) and found["args"].named == "argparse.Namespace"
        assert plain(found["args"]) == {"layers": 3, "mode": "group", "words": ["a"]}
        assert plain(found["cfg"]) == {"dim": 7, "inner": [7, "x"]}
        assert plain(found["defaults"]) == {"a": [1]}


@FORMATS
@pytest.mark.parametrize("call", [os.system, subprocess.getoutput, eval, exec, os.mkdir], ids=lambda one: one.__name__)
def test_nothing_is_called(tmp_path: Path, zipped: bool, call: Any) -> None:
    mark = tmp_path / "called"
    command = f"__import__('os').mkdir({str(mark)!r})" if call in {eval, exec} else f"mkdir {mark}"
    evil = Evil(call, str(mark) if call is os.mkdir else command)
    place = save({"model": evil, "also": [evil]}, tmp_path / "a.pt", zipped=zipped)
    with opened(place) as found:
        assert isinstance(found["model"], Record)
    assert not mark.exists()
    torch.load(place, weights_only=False)  # the file would do it
    assert mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        # Attributes of what the reader itself uses: of a class, of a maker of tensors, of a record's class.
        b"ccollections\nOrderedDict\n(dX\x01\x00\x00\x00aI1\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(dX\x08\x00\x00\x00__call__I1\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N(dX\x08\x00\x00\x00__call__I1\nstb.",
        b"cos\nsystem\n(N(dX\x05\x00\x00\x00namedI1\nstb.",
        b"cbuiltins\ngetattr\n(ctorch\nFloatStorage\nX\x01\x00\x00\x00atR)R.",
        b"ctorch\nFloatStorage\n)R.",
    ],
)
def test_a_program_that_sets_or_calls_what_is_known_is_refused(tmp_path: Path, program: bytes) -> None:
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    place = tmp_path / "a.pt"
    place.write_bytes(b"".join(parts) + program + pickle.dumps([], 2))
    with pytest.raises(ModelError, match=r"not a checkpoint of torch\.save, or a damaged one") as caught, opened(place):
        pass
    assert "\n" not in str(caught.value)
    # And the reader reads on as before.
    with opened(save({"a": torch.ones(2)}, tmp_path / "b.pt")) as found:
        assert found["a"].load().sum() == 2


@FORMATS
def test_a_truncated_file_is_told_in_one_line(tmp_path: Path, zipped: bool) -> None:
    whole = save({"a": torch.randn(500), "b": torch.randn(500)}, tmp_path / "a.pt", zipped=zipped).read_bytes()
    short = tmp_path / "short.pt"
    for size in (0, 1, 10, 200, len(whole) // 2, len(whole) - 100):
        short.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"short\.pt: not a checkpoint") as caught, opened(short) as found:
            [one.load() for one in found.values()]
        assert "\n" not in str(caught.value)


def test_a_view_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    with opened(save({"a": torch.ones(4)}, tmp_path / "a.pt")) as found:
        read = found["a"].read
    wide = StoredTensor(read, torch.float32, 2, (4,), (1,))
    with pytest.raises(ModelError, match="damaged"), opened(tmp_path / "a.pt"):
        wide.load()


def test_other_files_are_told_in_one_line(tmp_path: Path) -> None:
    text, other = tmp_path / "a.txt", tmp_path / "b.pkl"
    text.write_text("Dear reader,\nthis is a letter.\n")
    other.write_bytes(pickle.dumps({"a": 1}))
    for place in (text, other, tmp_path / "none.pt", tmp_path):
        with pytest.raises(ModelError) as caught, opened(place):
            pass
        assert str(caught.value).startswith(f"{place}: ") and "\n" not in str(caught.value)


def test_lists_within_lists_are_walked_through_once() -> None:
    """Sixty levels, each of which holds the one below twice: 2^50 steps if each were walked through."""
    found: list[Any] = ["lowest"]
    for _ in range(60):
        found = [found, found]
    settings = plain({"deep": found})["deep"]
    assert settings[0] is settings[1] and plain([["lowest"], "x"]) == [["lowest"], "x"]
