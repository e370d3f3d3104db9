"""Many tasks on one backbone in memory: their adapters and heads side by side, mixed batches in one forward pass.

board = Switchboard()
board.add("topic", "runs/topic-lora")
board.add("match", "runs/match-lora")
board.answer([("topic", "Open a file."), ("match", ("Open a file.", "open(path)"))])
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn

from hfcourse import model as models
from hfcourse.backbones.load import load_config, locate
from hfcourse.backbones.lookup import GivenStates
from hfcourse.backbones.parts import with_decoder_inputs
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.data import tokenizers
from hfcourse.errors import ModelError, unknown
from hfcourse.peft.tuner import unwrap_heads
from hfcourse.peft.wrap import WRAPPED, adapted_backbone, is_adapter, quiet_peft
from hfcourse.weights import bare_backbone

_BASE = "__base__"
_BY_ROW = {"LORA", "BOTTLENECK"}
"""Methods whose layers can take another adapter for each row."""


@dataclasses.dataclass
class _Task:
    """One task: its head, and where its adapter stands."""

    head: nn.Module
    """The task's own model with the states in place of its backbone."""
    group: str
    """Adapters of one group share a structure around the backbone; empty: the bare backbone."""
    adapter: str
    mixes: bool
    """Whether the head reads all layers."""


class Switchboard:
    """One frozen backbone and the tasks that were trained on it.

    LoRA's of all tasks are answered in one pass, bottleneck adapters in one a placement, linear probes along with
    either; other methods take a pass a task. The backbone's weights are in memory once.
    """

    def __init__(self) -> None:
        self.name = ""
        """The backbone, as the first task names it."""
        self._settings = BackboneConfig()
        self._backbone: Any = None
        self._structures: dict[str, Any] = {}
        self._tasks: dict[str, _Task] = {}
        self._tokenizer: Any = None
        self._added = 0
        self._by_row: set[str] = set()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order they came."""
        return tuple(self._tasks)

    def add(self, name: str, run: str | Path) -> None:
        """Load one task.

        Args:
            name: what it is called here.
            run: a finished run with ``--peft``, or the folder of its model.

        Raises:
            ModelError: no adapter there, one for another backbone, or a name that is taken.
        """
        folder = locate(str(run))
        if name in self._tasks:
            raise ModelError(f"a task called {name!r} is here already: remove it first, or choose another name")
        if not is_adapter(folder):
            raise ModelError(f"{run}: a whole model, no adapter: name a run that was trained with --peft")
        backbone, revision = adapted_backbone(folder)
        if self.name and (backbone, revision) != (self.name, self._settings.revision):
            raise ModelError(f"{run} was trained on {backbone}, the tasks here on {self.name}: use a board of its own")
        loaded = models.load(folder)
        inner: Any = models.unwrapped(loaded)
        prefix = inner.base_model_prefix
        if self._backbone is None:
            self.name, self._settings = backbone, BackboneConfig(revision=revision)
            config = load_config(backbone, self._settings, None)
            self._backbone = bare_backbone(backbone, config, self._settings).eval()
            self._tokenizer = tokenizers.load(folder)
        self._added += 1
        adapter = f"task{self._added}"  # peft takes no names with dots
        group = self._install(adapter, folder, PeftConfig.from_pretrained(folder), prefix)
        unwrap_heads(inner)
        setattr(inner, prefix, GivenStates(getattr(inner.base_model, "pooler", None)))
        mixes = getattr(inner, "reads_all_layers", False)
        self._tasks[name] = _Task(inner.eval(), group, adapter if group else _BASE, mixes)

    def remove(self, name: str) -> None:
        """Drop one task and free what was its own.

        Raises:
            ModelError: no such task.
        """
        task = self._tasks.pop(self._known(name))
        others = [other for other in self._tasks.values() if other.group == task.group]
        if task.group and not others:
            del self._structures[task.group]
        elif task.group:
            structure = self._structures[task.group]
            structure.set_adapter(others[0].adapter)
            structure.delete_adapter(task.adapter)

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Tensor], tasks: Sequence[str]) -> list[Tensor]:
        """Logits of each row, by its own task's head.

        Args:
            batch: what the backbone takes, (B, T).
            tasks: the task of each row, (B,).

        Returns:
            For each row its logits: (classes,), or (T, classes) from heads that answer every token; start and end of
            a span are (T, 2).

        Raises:
            ModelError: an unknown task, or another number of tasks than rows.
        """
        rows = len(next(iter(batch.values())))
        if rows != len(tasks):
            raise ModelError(f"{len(tasks)} tasks for {rows} rows: name one for each")
        states = self._states(dict(batch), [self._tasks[self._known(name)] for name in tasks])  # (B, T[, L], H)
        answers: list[Any] = [None] * rows
        for name in dict.fromkeys(tasks):
            places = [place for place, one in enumerate(tasks) if one == name]
            index = torch.tensor(places, device=states.device)
            mine = {key: tensor.index_select(0, index) for key, tensor in batch.items()}
            task = self._tasks[name]
            given = states.index_select(0, index)
            given = given if task.mixes or given.dim() == 3 else given[:, :, -1]
            output = task.head(**mine, inputs_embeds=given)
            for place, logits in zip(places, _logits(output), strict=True):
                answers[place] = logits
        return answers

    def answer(self, questions: Sequence[tuple[str, str | tuple[str, str]]]) -> list[dict[str, Any]]:
        """Classes of texts, or of pairs of texts: ``(task, text)`` -> ``{"label": ..., "confidence": ...}``.

        A task of numbers gives ``{"value": ...}``, one of several labels a text ``{"labels": [...]}``.

        Raises:
            ModelError: an unknown task, or one whose head gives no class.
        """
        names = [self._known(name) for name, _ in questions]
        texts = [text if isinstance(text, tuple) else (text, None) for _, text in questions]
        ids = [self._tokenizer(*pair, truncation=True) for pair in texts]
        device = next(self._backbone.parameters()).device
        found: list[dict[str, Any]] = []
        logits = self(self._tokenizer.pad(ids, return_tensors="pt").to(device), names)
        for name, row in zip(names, logits, strict=True):
            labels = self._labels(name)
            if row.dim() != 1 or len(labels) != len(row):
                raise ModelError(f"task {name!r} gives no class for a text: read the logits of board(batch, tasks)")
            problem = self._problem(name)
            if problem == "regression":
                found.append({"value": float(row)})
                continue
            if problem == "multi_label_classification":
                found.append({"labels": [label for label, logit in zip(labels, row, strict=True) if logit > 0]})
                continue
            confidence, best = row.float().softmax(dim=-1).max(dim=-1)
            found.append({"label": labels[int(best)], "confidence": float(confidence)})
        return found

    def to(self, device: torch.device | str) -> Switchboard:
        """Move everything."""
        for module in (self._backbone, *self._structures.values(), *(task.head for task in self._tasks.values())):
            if module is not None:
                module.to(device)
        return self

    def _known(self, name: str) -> str:
        if name not in self._tasks:
            raise ModelError(unknown("task", name, self._tasks))
        return name

    def _problem(self, name: str) -> str:
        config: Any = self._tasks[name].head.config
        specs = getattr(config, "specs", ())
        return str(specs[0].problem if specs else config.problem_type)

    def _labels(self, name: str) -> list[str]:
        config: Any = self._tasks[name].head.config
        specs = getattr(config, "specs", ())
        return list(specs[0].labels) if specs else [config.id2label[number] for number in range(config.num_labels)]

    def _states(self, batch: dict[str, Tensor], tasks: list[_Task]) -> Tensor:
        """The last states (B, T, H), or all layers' where a head asks; each row through its adapter, a pass a group."""
        groups = {task.group for task in tasks}
        mixed = next((group for group in groups if group in self._by_row), "")
        passes: dict[str, list[int]] = {}
        for row, task in enumerate(tasks):  # the bare backbone's rows go along with a mixed pass
            passes.setdefault(task.group or mixed, []).append(row)
        states: Tensor | None = None
        for group, rows in passes.items():
            whole = len(rows) == len(tasks)
            index = torch.tensor(rows, device=next(iter(batch.values())).device)
            inputs = batch if whole else {key: tensor.index_select(0, index) for key, tensor in batch.items()}
            found = self._run(group, inputs, [tasks[row].adapter for row in rows], any(task.mixes for task in tasks))
            if whole:
                return found
            states = found.new_empty(len(tasks), *found.shape[1:]) if states is None else states
            states[index] = found
        assert states is not None
        return states

    def _run(self, group: str, inputs: dict[str, Tensor], adapters: list[str], layers: bool) -> Tensor:
        model = self._structures[group] if group else self._backbone
        more = {"adapter_names": adapters} if group in self._by_row else {}
        output = model(**with_decoder_inputs(self._backbone, inputs), output_hidden_states=layers, **more)
        return torch.stack(output.hidden_states, dim=2) if layers else output.last_hidden_state

    def _install(self, name: str, folder: str, config: Any, prefix: str) -> str:
        """Put an adapter around the backbone; returns its group."""
        kind = str(config.peft_type.value)
        if kind == "HEAD_ONLY" and config.bias == "none":
            return ""
        by_row = kind in _BY_ROW and not getattr(config, "use_dora", False)
        group = f"{kind} {getattr(config, 'placement', '')}" if by_row else name
        if by_row:
            self._by_row.add(group)
        config = _of_bare(config, prefix)
        with quiet_peft():
            if group not in self._structures:
                structure = _sharing(self._backbone, own_biases=kind == "HEAD_ONLY")
                self._structures[group] = get_peft_model(structure, config, adapter_name=name).eval()
            else:
                self._structures[group].add_adapter(name, config)
                self._structures[group].eval()  # the new adapter's dropout, too
        weights = load_peft_weights(folder)
        start = f"{WRAPPED}{prefix}."
        own = {WRAPPED + key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        own = {key: value for key, value in own.items() if not key.startswith(f"{WRAPPED}pooler.")}
        own |= {key: value for key, value in weights.items() if not key.startswith(WRAPPED)}  # shared by all layers
        set_peft_model_state_dict(self._structures[group], own, adapter_name=name)
        for parameter in self._structures[group].parameters():
            parameter.requires_grad_(False)
        return group


def _sharing(backbone: nn.Module, *, own_biases: bool) -> Any:
    """Another structure on the same weights; with biases of its own where a method trains them."""
    named = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    kept = {id(tensor): tensor for name, tensor in named.items() if not (own_biases and name.endswith(".bias"))}
    return copy.deepcopy(backbone, memo=dict(kept))


def _of_bare(config: Any, prefix: str) -> Any:
    """An adapter's config with the names of modules as the bare backbone has them, and without a head."""
    changed = copy.deepcopy(config)
    for field in dataclasses.fields(changed):
        value = getattr(changed, field.name)
        if isinstance(value, list | set | tuple) and all(isinstance(one, str) for one in value):
            setattr(changed, field.name, [one.removeprefix(f"{prefix}.") for one in value])
        elif isinstance(value, dict) and field.name.endswith("_pattern"):
            setattr(changed, field.name, {key.removeprefix(f"{prefix}."): one for key, one in value.items()})
    changed.modules_to_save = None
    changed.inference_mode = True
    return changed


def _logits(output: Any) -> Tensor:
    if getattr(output, "start_logits", None) is not None:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    return output.logits  # type: ignore[no-any-return]
