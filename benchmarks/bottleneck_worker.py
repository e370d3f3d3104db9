"""One side of `bottleneck_adapters.py`: MiniLM with adapters, ours or those of the `adapters` library.

A process that stays: it takes a job a line (JSON) on standard input and answers each with a line. It runs in two
environments, so it holds nothing that only one of them has but inside the builders; the loop is the same for both.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hfcourse.engine import machine

REDUCTION = {"houlsby": 16, "pfeiffer": 16, "parallel": 16, "compacter": 32}
"""Width of the backbone / width of the bottleneck, by placement."""
LABELS = ("a", "b", "c")


@dataclass(frozen=True)
class Side:
    """A classifier and, by place, the adapters in it."""

    model: Any
    adapters: dict[str, nn.Module]
    """By the module of the backbone whose answer they change."""

    @property
    def head(self) -> list[nn.Parameter]:
        """What is trained beside the adapters: pooler and classifier."""
        inside = {id(p) for p in self.adapter_parameters}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) not in inside]

    @property
    def adapter_parameters(self) -> list[nn.Parameter]:
        """Each once, also Compacter's shared rules."""
        found = [p for adapter in self.adapters.values() for p in adapter.parameters()]
        return list({id(p): p for p in found}.values())


def loud(key: str, like: Tensor, scale: float) -> Tensor:
    """Normal numbers that depend on `key` alone: the same on both sides, and large enough to matter."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    return torch.randn(like.shape, generator=generator) * scale


def fill(parameters: dict[str, nn.Parameter], scale: float = 0.1) -> None:
    """Give all parameters numbers by their keys."""
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(loud(key, parameter, scale))


def ours(placement: str, backbone: str) -> Side:
    """`hfcourse.model.build`, as a recipe calls it."""
    from hfcourse import model as models
    from hfcourse.heads.spec import HeadSpec
    from hfcourse.peft.bottleneck_layers import BottleneckLayer
    from hfcourse.peft_settings import PeftSettings

    peft = PeftSettings(method=placement, reduction=REDUCTION[placement])  # type: ignore[arg-type]
    model: Any = models.build(backbone, HeadSpec(kind="sequence", labels=LABELS), peft=peft)
    adapters = {
        name.removeprefix("base_model.model.").rpartition(".")[0]: module.bottleneck_adapters["default"]
        for name, module in model.named_modules()
        if isinstance(module, BottleneckLayer) and module.bottleneck_adapters
    }
    for place, adapter in adapters.items():
        fill({f"{place}.{name}": p for name, p in adapter.named_parameters() if name != "rules"})
        if placement == "compacter":
            fill({"rules": adapter.rules}, scale=0.5)
    inner = model.get_base_model()
    heads = {"pooler": inner.bert.pooler, "classifier": inner.classifier}
    _fill_head({name: module.modules_to_save["default"] for name, module in heads.items()})
    return Side(model, adapters)


def theirs(placement: str, backbone: str) -> Side:
    """The library's own configs at our widths; it calls Houlsby, Pfeiffer and parallel by other names."""
    import adapters as library
    from transformers import BertForSequenceClassification

    model: Any = BertForSequenceClassification.from_pretrained(backbone, num_labels=len(LABELS))
    library.init(model)
    kinds = {
        "houlsby": library.DoubleSeqBnConfig,
        "pfeiffer": library.SeqBnConfig,
        "parallel": library.ParBnConfig,
        "compacter": library.CompacterConfig,
    }
    model.add_adapter("default", config=kinds[placement](reduction_factor=REDUCTION[placement]))
    model.train_adapter("default")
    for module in (model.bert.pooler, model.classifier):
        module.requires_grad_(True)
    adapters = {
        name: module.adapters["default"]
        for name, module in model.named_modules()
        if "default" in getattr(module, "adapters", {})
    }
    rules = [p for name, p in model.named_parameters() if "shared_parameters" in name]
    for place, adapter in adapters.items():
        down, up = adapter.adapter_down[0], adapter.adapter_up
        if placement != "compacter":
            linears = {"down": down, "up": up}
            fill({f"{place}.{word}.{name}": p for word, one in linears.items() for name, p in one.named_parameters()})
            continue
        for word, one in (("down", down), ("up", up)):
            _fill_transposed({f"{place}.{word}.left": one.W_right, f"{place}.{word}.right": one.W_left})
            fill({f"{place}.{word}.bias": one.b})
        _fill_transposed({"rules": rules[0]}, scale=0.5)
    _fill_head({"pooler": model.bert.pooler, "classifier": model.classifier})
    found = {place: nn.ModuleList([adapter, nn.ParameterList(rules)]) for place, adapter in adapters.items()}
    return Side(model, found)  # type: ignore[arg-type]


def _fill_transposed(parameters: dict[str, nn.Parameter], scale: float = 0.1) -> None:
    """Of matrices that the library keeps as (in, out)."""
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(loud(key, parameter.transpose(-1, -2), scale).transpose(-1, -2))


def _fill_head(modules: dict[str, nn.Module]) -> None:
    fill({f"{key}.{name}": p for key, module in modules.items() for name, p in module.named_parameters()}, 0.05)


def batch_of(rows: int, length: int, *, padded: bool) -> dict[str, Tensor]:
    """Random words; `padded`: rows of different lengths."""
    generator = torch.Generator().manual_seed(rows * length)
    ids = torch.randint(1000, 30_000, (rows, length), generator=generator)
    lengths = torch.randint(length // 2, length + 1, (rows,), generator=generator) if padded else torch.tensor(length)
    mask = (torch.arange(length) < lengths.reshape(-1, 1)).long().expand(rows, -1)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(rows) % len(LABELS)}


def answer(side: Side, file: str) -> dict[str, Any]:
    """States of all layers at the words, and logits, into `file`; the numbers of parameters."""
    side.model.eval()
    batch = batch_of(8, 64, padded=True)
    with torch.no_grad():
        output = side.model(**batch, output_hidden_states=True)
    states = torch.stack(output.hidden_states)[:, batch["attention_mask"].bool()]
    torch.save({"states": states, "logits": output.logits}, file)
    return {
        "adapters": sum(p.numel() for p in side.adapter_parameters),
        "head": sum(p.numel() for p in side.head),
    }


class Loop:
    """A bare training loop, or forward passes alone."""

    def __init__(self, side: Side, rows: int, length: int, *, train: bool) -> None:
        self.model, self.train = side.model, train
        self.batch = batch_of(rows, length, padded=False)
        self.optimizer = torch.optim.AdamW([*side.adapter_parameters, *side.head], lr=1e-4)
        self.run(2)

    def run(self, steps: int) -> float:
        """Seconds of a step."""
        self.model.train(self.train)
        began = time.perf_counter()
        with torch.set_grad_enabled(self.train):
            for _ in range(steps):
                loss = self.model(**self.batch).loss
                if self.train:
                    loss.backward()
                    self.optimizer.step()
                    self.optimizer.zero_grad()
        return (time.perf_counter() - began) / steps


def ours_fast(placement: str, backbone: str) -> Side:
    """The same with the dropout that `fit` puts in."""
    from hfcourse.engine.dropout import fast_dropout_in

    side = ours(placement, backbone)
    fast_dropout_in(side.model).__enter__()  # for good
    return side


SIDES = {"ours": ours, "ours_fast": ours_fast, "theirs": theirs}


def main(name: str, backbone: str) -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    machine.tune_allocator()
    torch.manual_seed(0)
    sides: dict[str, Side] = {}
    loops: dict[str, Loop] = {}
    for line in sys.stdin:
        job = json.loads(line)
        placement = job["placement"]
        if placement not in sides:
            sides[placement] = SIDES[name](placement, backbone)
        side = sides[placement]
        if "file" in job:
            result: Any = answer(side, job["file"])
        else:
            rows, length, train, steps = job["rows"], job["length"], job["train"], job["steps"]
            key = f"{placement} {rows} {length} {train}"
            if key not in loops:
                loops[key] = Loop(side, rows, length, train=train)
            result = loops[key].run(steps)
        import transformers

        setup = f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads"
        setup += f", {machine.allocator()} malloc"
        answers.write(json.dumps({"result": result, "setup": setup}) + "\n")


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent]
    main(*sys.argv[1:])
