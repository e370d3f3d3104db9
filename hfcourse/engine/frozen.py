"""A wholly frozen backbone runs once over each split; heads then learn from its states (linear probes, SUPERB)."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hfcourse import disk
from hfcourse.backbones.lookup import GivenStates
from hfcourse.backbones.parts import with_decoder_inputs
from hfcourse.backbones.speech.rate import state_counts
from hfcourse.engine.evaluate import to_device
from hfcourse.engine.progress import bar, say
from hfcourse.engine.setup import Setup
from hfcourse.errors import TrainingError
from hfcourse.heads.spec import HeadSpec
from hfcourse.model import unwrapped
from hfcourse.native import reads_first_alone, reads_means_alone
from hfcourse.tasks.base import Batch, Examples, Row, Task


@contextlib.contextmanager
def states_once(model: Any, task: Task, setup: Setup) -> Iterator[Task]:
    """Within the block a task whose batches bring the frozen backbone's states, which the model then takes as they are.

    Where the backbone is trained, a row's input changes from epoch to epoch, several processes share the run, or the
    disk has no room for all states, the task is given back as it is. States are those of evaluation, without dropout;
    of a row whose head reads the first alone, or the mean of all, that one is kept. They lie in a file of the run
    folder that goes when the block ends.

    Raises:
        RunFolderError: no room for the file. TrainingError: states that are no numbers.
    """
    backbone = frozen_backbone(model)
    heads = (task.head,) if isinstance(task.head, HeadSpec) else task.head
    several = any(head.kind == "multiple_choice" for head in heads)  # rows of several inputs
    if task.augments or several or setup.accelerator.num_processes > 1 or backbone is None:
        yield task
        return
    inner, folder = unwrapped(model), setup.run.path / ".states.partial"
    wanted, free = _size(inner, task), shutil.disk_usage(setup.run.path).free
    if wanted > free:
        say(
            f"the backbone is frozen, but runs in every epoch: the disk has {free / 2**30:,.1f} GiB, and its states "
            f"need {wanted / 2**30:,.1f}"
        )
        yield task
        return
    try:
        with disk.clear_errors(folder):
            folder.mkdir(exist_ok=True)
            splits = [split for split in task.splits if len(task.splits[split])]
            stores = {split: _compute(inner, task, split, folder / split, setup) for split in splits}
        say("the backbone is frozen: its states were computed once")
        # What stands in an instance's own dictionary is found before its class's: names and weights stay as they are.
        backbone.__dict__["forward"] = GivenStates(
            getattr(backbone, "pooler", None), means=reads_means_alone(inner)
        ).forward
        yield _with_states(task, stores)
    finally:
        backbone.__dict__.pop("forward", None)
        shutil.rmtree(folder, ignore_errors=True)


def frozen_backbone(model: Any) -> Any:
    """The backbone where no more of it is trained than its pooler, which stands above its states; else None."""
    inner = unwrapped(model)
    beside = {id(p) for p in model.parameters() if p.requires_grad} - {id(p) for p in inner.parameters()}
    backbone: Any = inner.base_model
    if beside or backbone is inner or not hasattr(backbone, "get_input_embeddings"):
        return None
    trained = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    return backbone if all(name.startswith("pooler.") for name in trained) else None


def _size(model: Any, task: Task) -> int:
    """Bytes of all states that would be kept; 0 where the backbone's config does not tell their width."""
    config = model.base_model.config
    layers = config.num_hidden_layers + 1 if getattr(model, "reads_all_layers", False) else 1
    one = reads_first_alone(model) or reads_means_alone(model)
    states = sum(
        len(rows) if one else int(_state_counts(task, split, model.base_model).sum())
        for split, rows in task.splits.items()
        if len(rows)
    )
    return 4 * states * layers * int(getattr(config, "hidden_size", 0))


class _Store:
    """The states of one split: of each row one, or all of them one after another."""

    def __init__(self, path: Path, lengths: np.ndarray, single: bool, shape: tuple[int, ...]) -> None:
        self.single = single
        self.lengths = np.ones_like(lengths) if single else lengths
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        shape = (int(self.starts[-1]), *shape)
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would be a crash at the first write
                os.posix_fallocate(file.fileno(), 0, 4 * int(np.prod(shape)))
            else:
                file.truncate(4 * int(np.prod(shape)))
        self.states = np.memmap(path, dtype=np.float32, mode="r+", shape=shape)

    def put(self, rows: np.ndarray, states: Tensor) -> np.ndarray:
        """(B, T, ...) of some rows; what is padded stays out. Returns the rows whose states are nan or inf."""
        values = states.float().cpu().numpy()
        length = values.shape[1]
        inside = np.arange(length) < self.lengths[rows][:, None]
        self.states[self._places(rows, length)[inside]] = values[inside]
        finite = np.isfinite(values).reshape(*inside.shape, -1).all(axis=2)
        odd: np.ndarray = rows[(inside & ~finite).any(axis=1)]
        return odd

    def get(self, rows: np.ndarray) -> Tensor:
        """(B, T, ...), zeros where padded."""
        length = int(self.lengths[rows].max())
        if self.single or self.lengths[rows].min() == length:
            return torch.from_numpy(self.states[self._places(rows, length)])
        inside = np.arange(length) < self.lengths[rows][:, None]
        states = np.zeros((*inside.shape, *self.states.shape[1:]), dtype=np.float32)
        states[inside] = self.states[self._places(rows, length)[inside]]
        return torch.from_numpy(states)

    def _places(self, rows: np.ndarray, length: int) -> np.ndarray:
        places: np.ndarray = self.starts[rows][:, None] + np.arange(length)
        return places


class _Numbered:
    """Examples that say which split they are of."""

    def __init__(self, examples: Examples, split: str) -> None:
        self.examples, self.split = examples, split
        self.lengths = examples.lengths

    def __len__(self) -> int:
        return len(self.examples)

    def __getattr__(self, name: str) -> Any:
        """What a task keeps beside its rows."""
        return getattr(self.__dict__["examples"], name)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        """The rows asked for, in that order."""
        return [row | {"split": self.split} for row in self.examples.take(rows)]


def _with_states(task: Task, stores: dict[str, _Store]) -> Task:
    """The task with states in its batches."""
    changed: Any = copy.copy(task)

    # Sound that is known by its states is not decoded again.
    plain: Any = getattr(task, "without_sound", task.collate)

    def collate(rows: list[Row], *, epoch: int) -> Batch:
        numbers = np.asarray([row["row"] for row in rows])
        batch: Batch = plain(rows, epoch=epoch)
        return batch | {"inputs_embeds": stores[rows[0]["split"]].get(numbers)}

    changed.collate = collate
    changed.expect = lambda rows, *, epoch: None  # nothing is decoded any more
    changed.splits = {split: _Numbered(examples, split) for split, examples in task.splits.items()}
    return changed  # type: ignore[no-any-return]


def _state_counts(task: Task, split: str, backbone: Any) -> np.ndarray:
    """States of each row of a split, int64 (rows,)."""
    examples: Any = task.splits[split]
    lengths: np.ndarray = state_counts(backbone.config, examples.samples) if task.hears else examples.lengths
    return lengths


@torch.no_grad()
def _compute(model: Any, task: Task, split: str, path: Path, setup: Setup) -> _Store:
    """One pass of the backbone over a split."""
    examples, backbone, device = task.splits[split], model.base_model, setup.accelerator.device
    mix = getattr(model, "reads_all_layers", False)
    first, means, lengths = reads_first_alone(model), reads_means_alone(model), _state_counts(task, split, backbone)
    tokens = setup.config.batch.eval_tokens or (4096 if device.type == "cpu" else 16384)
    steps = task.plan(split, examples=len(examples), tokens=tokens, shuffle=False)
    taken = {*inspect.signature(backbone.forward).parameters} - {"labels"}
    was_training = model.training
    model.to(device).eval()
    store = None
    shown = setup.config.train.progress and setup.accelerator.is_main_process
    with bar(f"{setup.run.path.name} states of {split}", len(steps), shown=shown) as progress:
        for done, rows in enumerate(steps, start=1):
            batch = to_device(task.collate(examples.take(rows), epoch=-1), device)
            inputs = {key: value for key, value in batch.items() if key in taken}
            with setup.accelerator.autocast():
                output = backbone(**with_decoder_inputs(backbone, inputs), output_hidden_states=mix)
            states = torch.stack(output.hidden_states, dim=2) if mix else output.last_hidden_state
            if means:
                states = _means(states, lengths[rows], normalise=mix)
            states = states[:, :1] if first else states
            store = store or _Store(path, lengths, first or means, tuple(states.shape[2:]))
            odd = store.put(rows, states)
            if len(odd):
                number = odd[0] + 1
                raise TrainingError(
                    f"{task.name}, {split}, row {number}: the backbone's states are nan or inf: its "
                    "weights are damaged, or too large for this precision: try --train.precision fp32"
                )
            progress.update(done)
    model.train(was_training)
    assert store is not None
    return store


def _means(states: Tensor, lengths: np.ndarray, *, normalise: bool) -> Tensor:
    """(B, T, ...) -> (B, 1, ...): the mean of each row's real states, which are normalised first as `LayerMix` does."""
    states = states.float()
    states = F.layer_norm(states, states.shape[-1:]) if normalise else states
    counts = torch.from_numpy(lengths).to(states.device)
    real = torch.arange(states.shape[1], device=states.device) < counts[:, None]
    shape = (len(counts), *[1] * (states.dim() - 1))
    states = states.masked_fill(~real.view(*real.shape, *shape[2:]), 0)  # whatever padding holds, nan too
    return states.sum(dim=1, keepdim=True) / counts.clamp(min=1).view(shape)
