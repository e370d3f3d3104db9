"""The model card: a README.md beside the weights with what was trained, how, how well, and how to use it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcourse.errors import RunFolderError

if TYPE_CHECKING:
    from hfcourse.run_folder import RunFolder


@dataclass(frozen=True)
class _Use:
    """How a kind of model is used without this package."""

    tag: str | None
    """The Hub's name for the task."""
    code: str
    """Python, with FOLDER for the place of the model."""
    needs: str = "Nothing but transformers and torch is needed."
    library: str = "transformers"


def _pipeline(tag: str, call: str) -> _Use:
    start = f'from transformers import pipeline\n\nmodel = pipeline("{tag}", model="FOLDER")'
    return _Use(tag, f"{start}\nprint(model({call}))")


def _auto(tag: str | None, model_class: str, rest: str) -> _Use:
    start = f"""\
import torch
from transformers import {model_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = {model_class}.from_pretrained("FOLDER")
"""
    return _Use(tag, start + rest)


_USES = {
    "ForSequenceClassification": _pipeline("text-classification", '"A sentence to judge."'),
    "ForTokenClassification": _pipeline("token-classification", '"A sentence whose words get tags."'),
    "ForMaskedLM": _pipeline("fill-mask", 'f"The {model.tokenizer.mask_token} of a function."'),
    "ForCausalLM": _pipeline("text-generation", '"The function"'),
    "LMHeadModel": _pipeline("text-generation", '"The function"'),
    # transformers 5 has no pipeline for answers in a document.
    "ForQuestionAnswering": _auto(
        "question-answering",
        "AutoModelForQuestionAnswering",
        """\
inputs = tokenizer("The question?", "The document that holds the answer.", return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
start, end = output.start_logits.argmax(), output.end_logits.argmax()
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))""",
    ),
    "ForMultipleChoice": _auto(
        "multiple-choice",
        "AutoModelForMultipleChoice",
        """\
choices = ["one ending", "another ending"]
inputs = tokenizer(["The context."] * len(choices), choices, padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**{name: tensor[None] for name, tensor in inputs.items()}).logits
print(choices[logits.argmax()])""",
    ),
    "BertForPreTraining": _auto(
        "fill-mask",
        "AutoModelForPreTraining",
        """\
inputs = tokenizer(f"The {tokenizer.mask_token} of a function.", return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).prediction_logits
masked = inputs["input_ids"] == tokenizer.mask_token_id
print(tokenizer.decode(logits[masked].argmax(-1)))""",
    ),
    "ElectraForPreTraining": _auto(
        None,
        "AutoModelForPreTraining",
        """\
inputs = tokenizer("Which of these words looks replaced?", return_tensors="pt")
with torch.no_grad():
    print(model(**inputs).logits.sigmoid())""",
    ),
}
_PLAIN = _auto(
    "feature-extraction",
    "AutoModel",
    """\
with torch.no_grad():
    print(model(**tokenizer("A sentence.", return_tensors="pt")).last_hidden_state.shape)""",
)
_HEARS = _Use(
    "feature-extraction",
    """\
import torch
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("FOLDER")
model = AutoModel.from_pretrained("FOLDER")
second = torch.zeros(extractor.sampling_rate).numpy()  # put a recording here
with torch.no_grad():
    inputs = extractor(second, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    print(model(**inputs).last_hidden_state.shape)""",
)
_OUR_METHODS = {"BOTTLENECK", "HEAD_ONLY", "KV_PREFIX", "SOFT_PROMPT"}
_LOAD = """\
from hfcourse.model import load

model = load("FOLDER")"""
_OURS = _Use(None, _LOAD, "This model's heads have no class in transformers: it needs `hfcourse` to be loaded.")
_OUR_NET = _Use("feature-extraction", _LOAD, "This net has no class in transformers: it needs `hfcourse` to be loaded.")


def write_card(
    run: RunFolder,
    *,
    task_name: str = "",
    metrics: Mapping[str, Any] | None = None,
    base_model: str = "",
    language: str = "",
) -> Path:
    """Write ``model/README.md`` of a finished run and return its path.

    What is not given is read from the run: the task and its scores from metrics.json, the base model from the config
    (named in the card's metadata only where it is an id on the Hub). The licence is left to the user.

    Raises:
        RunFolderError: the run is not finished, or has no saved model.
    """
    if not (run.model_dir / "config.json").is_file():
        raise RunFolderError(f"{run.model_dir} holds no model: a card is written when the run has finished")
    if metrics is None:
        if not run.finished:
            raise RunFolderError(f"{run.path} has not finished: continue it with --resume")
        metrics = run.read_json("metrics.json")
    task_name = task_name or str(metrics.get("task") or "a task")
    base_model = base_model or str(run.config.get("model") or "")
    use = _use(run.model_dir)
    text = _text(run, task_name=task_name, metrics=metrics, base_model=base_model, use=use)
    data = _metadata(run, task_name, metrics, base_model if _is_hub_id(base_model) else "", language, use)
    return run.write_text(f"{run.model_dir.name}/README.md", f"---\n{data}\n---\n\n{text}")


def _use(folder: Path) -> _Use:
    """By the class that the saved config names."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = (config.get("architectures") or [""])[0]
    if (folder / "adapter_config.json").is_file():
        adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return _adapter_use(name, adapter, _by_class(name).tag)
    if name != "HeadedModel" and str(config.get("model_type", "")).startswith("hfcourse_"):
        return _OUR_NET
    use = _by_class(name)
    return _HEARS if use is _PLAIN and (folder / "preprocessor_config.json").is_file() else use


def _by_class(name: str) -> _Use:
    if name == "HeadedModel":
        return _OURS
    return next((use for ending, use in _USES.items() if name.endswith(ending)), _PLAIN)


def _adapter_use(name: str, adapter: Mapping[str, Any], tag: str | None) -> _Use:
    """An adapter with its head, on the backbone that it names."""
    base = adapter.get("base_model_name_or_path")
    if name == "HeadedModel" or adapter.get("peft_type") in _OUR_METHODS or not base:
        needs = "The adapter holds what was trained, with the head; `hfcourse` puts both on the backbone."
        return _Use(tag, _LOAD, needs, "peft")
    code = f"""\
from peft import PeftModel
from transformers import AutoConfig, {name}

config = AutoConfig.from_pretrained("FOLDER")
model = {name}.from_pretrained("{base}", config=config)
model = PeftModel.from_pretrained(model, "FOLDER")"""
    return _Use(tag, code, "The adapter holds what was trained, with the head; the backbone is read beside it.", "peft")


def _is_hub_id(name: str) -> bool:
    """``owner/model`` that is no folder here."""
    return name.count("/") == 1 and not name.startswith((".", "/", "runs/")) and not Path(name).exists()


def _metadata(run: RunFolder, task: str, metrics: Mapping[str, Any], base_model: str, language: str, use: _Use) -> str:
    """The YAML at the head of the card, without its fences."""
    from huggingface_hub import EvalResult, ModelCardData

    source = _data_of(run) or task
    results = [
        EvalResult(
            task_type=use.tag or "other",
            dataset_type=source,
            dataset_name=task,
            dataset_split=split,
            metric_type=name,
            metric_value=value,
        )
        for split, name, value in _numbers(metrics)
    ]
    data = ModelCardData(
        base_model=base_model or None,
        language=language or None,
        library_name=use.library,
        pipeline_tag=use.tag,
        tags=["hfcourse", *([run.config["task"]["kind"]] if _kind(run) else [])],
        model_name=run.path.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _numbers(metrics: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """(split, metric, value) of every score that is a number."""
    return [
        (split, name, round(float(value), 6))
        for split, scores in (metrics.get("scores") or {}).items()
        for name, value in scores.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def _kind(run: RunFolder) -> str:
    task = run.config.get("task")
    return str(task.get("kind") or "") if isinstance(task, Mapping) else ""


def _data_of(run: RunFolder) -> str:
    task = run.config.get("task")
    return str(task.get("data") or "") if isinstance(task, Mapping) else ""


def _text(run: RunFolder, *, task_name: str, metrics: Mapping[str, Any], base_model: str, use: _Use) -> str:
    """The card below its metadata."""
    import jinja2
    import yaml

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    score = metrics.get("score") or {}
    return environment.get_template("card.md.j2").render(
        name=run.path.name,
        task=task_name,
        data=_data_of(run),
        base_model=base_model,
        pretraining=_kind(run).endswith("pretraining"),
        score=score if isinstance(score.get("value"), int | float) and math.isfinite(score["value"]) else None,
        numbers=_numbers(metrics),
        counts=metrics.get("counts") or {},
        metrics=metrics,
        settings=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True).strip(),
        code=use.code,
        needs=use.needs,
    )
