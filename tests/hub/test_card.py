"""The model card as the Hub's own reader sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hfcourse.errors import RunFolderError
from hfcourse.hub.card import write_card
from hfcourse.run_folder import RunFolder

METRICS: dict[str, Any] = {
    "recipe": "bert/finetune", "task": "pydocs/topic", "seed": 3, "steps": 120, "epochs": 2.5, "best_step": 100,
    "score": {"name": "accuracy", "split": "test", "value": 0.8125},
    "scores": {"dev": {"accuracy": 0.85}, "test": {"accuracy": 0.8125, "loss": float("nan")}},
    "counts": {"train": 4000, "dev": 200, "test": 320}, "wall_seconds": 61.2, "commit": "0123abcd",
    "parameters": {"all": 11_000_000, "trained": 9_000}, "versions": {"torch": "2.11.0"},
    "hardware": {"cpu": "some: cpu", "gpus": []},
}  # fmt: skip


def make(
    tmp_path: Path, architecture: str, *, model: str = "google/bert_uncased_L-4", finished: bool = True
) -> RunFolder:
    run = RunFolder.create(
        tmp_path / "my-run", {"model": model, "seed": 3, "task": {"kind": "classification", "data": "pydocs/topic"}}
    )
    run.model_dir.mkdir()
    (run.model_dir / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if finished:
        run.write_json("metrics.json", METRICS)
    return run


def test_the_hub_reads_the_metadata(tmp_path: Path) -> None:
    place = write_card(make(tmp_path, "BertForSequenceClassification"))
    assert place == tmp_path / "my-run" / "model" / "README.md"
    data = ModelCard.load(place).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert data.base_model == "google/bert_uncased_L-4"
    assert set(data.tags) == {"hfcourse", "classification"}
    assert getattr(data, "license", None) is None
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}
    assert found == {("dev", "accuracy"): 0.85, ("test", "accuracy"): 0.8125}  # the nan is left out


def test_what_hears_is_used_with_its_extractor(tmp_path: Path) -> None:
    run = make(tmp_path, "HubertModel")
    (run.model_dir / "preprocessor_config.json").write_text("{}")
    assert "AutoFeatureExtractor" in write_card(run).read_text()
    (run.model_dir / "config.json").write_text('{"architectures": ["FramesModel"], "model_type": "hfcourse_frames"}')
    text = write_card(run).read_text()
    assert 'load("FOLDER")' in text and "This net has no class in transformers" in text


@pytest.mark.parametrize(
    ("architecture", "tag"),
    [
        ("ElectraForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
        ("ModernBertForMaskedLM", "fill-mask"),
        ("BertForPreTraining", "fill-mask"),
        ("BertForMultipleChoice", "multiple-choice"),
        ("HeadedModel", None),
    ],
)
def test_the_use_follows_the_head(tmp_path: Path, architecture: str, tag: str | None) -> None:
    place = write_card(make(tmp_path, architecture))
    assert ModelCard.load(place).data.pipeline_tag == tag
    code = place.read_text().split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert ("hfcourse" in code) == (architecture == "HeadedModel")


def test_a_local_base_model_is_not_claimed_to_be_on_the_hub(tmp_path: Path) -> None:
    for number, name in enumerate(["bert-mini", "runs/bert-pretrain-1", "/tmp/model"]):
        place = write_card(make(tmp_path / str(number), "BertForSequenceClassification", model=name))
        assert ModelCard.load(place).data.base_model is None
        assert name in place.read_text()


def test_the_text_tells_how_it_was_made(tmp_path: Path) -> None:
    text = write_card(make(tmp_path, "BertForSequenceClassification")).read_text()
    for part in ("accuracy on test: 0.8125", "(320 examples)", "seed: 3", "9,000 of them trained", "torch 2.11.0"):
        assert part in text
    assert "data: pydocs/topic" in text  # the settings


def test_an_unfinished_run_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not finished"):
        write_card(make(tmp_path, "BertForSequenceClassification", finished=False))


def test_a_run_without_model_gets_no_card(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"seed": 0})
    with pytest.raises(RunFolderError, match="holds no model"):
        write_card(run)


def test_the_question_answering_code_runs(tmp_path: Path) -> None:
    """The code in the card, on a real (tiny, random) model, in place of a pipeline that transformers lacks."""
    from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "question", "document", "answer", "?", "."]
    run = make(tmp_path, "BertForQuestionAnswering")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertForQuestionAnswering(BertConfig(vocab_size=len(words), **size)).save_pretrained(run.model_dir)
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(run.model_dir)
    code = write_card(run).read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code.replace("FOLDER", str(run.model_dir)), "card", "exec"), {})


@pytest.mark.parametrize(("method", "needs"), [("lora", "from peft import"), ("pfeiffer", "from hfcourse.model")])
def test_the_code_of_an_adapter_runs(method: Any, needs: str, tmp_path: Path) -> None:
    """What the card says puts the saved adapter and head on their backbone."""
    import torch
    from transformers import BertConfig, BertModel

    from hfcourse import model as models
    from hfcourse.heads.spec import HeadSpec
    from hfcourse.peft.wrap import save
    from hfcourse.peft_settings import PeftSettings

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=40, **small)).save_pretrained(tmp_path / "backbone")
    spec = HeadSpec(kind="sequence", labels=("no", "yes", "maybe"))
    trained = models.build(str(tmp_path / "backbone"), spec, peft=PeftSettings(method=method)).eval()
    run = make(tmp_path, "BertForSequenceClassification", model=str(tmp_path / "backbone"))
    save(trained, run.model_dir)
    card = ModelCard.load(write_card(run))
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "text-classification"
    code = card.text.split("```python\n")[1].split("```")[0]
    assert needs in code
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(run.model_dir)), names)
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        assert torch.equal(names["model"].eval()(ids).logits, trained(ids).logits)
