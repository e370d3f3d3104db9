"""``hfcourse convert CHECKPOINT OUT``: speech models of fairseq and s3prl as folders that transformers loads."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hfcourse import disk
from hfcourse.config import read_yaml
from hfcourse.errors import ConfigError, HfcourseError, ModelError, RunFolderError
from hfcourse.hub import fairseq, fairseq_conv, s3prl
from hfcourse.hub.renaming import Found, converted
from hfcourse.hub.torch_files import opened, plain
from hfcourse.weights import quiet

_ADVICE = "free some space, or give another folder"
_FAMILIES = {
    "fairseq": (fairseq.settings_of, (fairseq.recognised, fairseq_conv.recognised)),
    "s3prl": (s3prl.settings_of, (s3prl.recognised,)),
}
_SETTINGS = ("cfg", "args", "Upstream_Config", "Config", "config", "Settings")
"""Where a checkpoint keeps settings."""


def convert(checkpoint: Path, out: Path, settings: Path | None = None) -> Found:
    """Write model, preprocessor config and a README to a new folder; nothing where anything is wrong.

    Args:
        checkpoint: a file of `torch.save`. Nothing that it names is run.
        out: the folder; it must not be there.
        settings: YAML or JSON with the model's settings in the toolkit's words, instead of the checkpoint's.

    Raises:
        ModelError: no such file, a damaged one, none of a net that is known here, or one that does not carry over.
        ConfigError: no settings in the file that was named for them. RunFolderError: the folder cannot be written.
    """
    if out.exists():
        raise RunFolderError(f"{out} is there already: give another folder")
    told = None if settings is None else _read_settings(settings)
    with opened(checkpoint) as content:
        try:
            family, found = _found(content, told)
            model, left_out = converted(found)
        except HfcourseError as error:
            raise ModelError(f"{checkpoint}: {error}") from error
        except (
            ValueError,
            TypeError,
            LookupError,
            ArithmeticError,
            AttributeError,
            RuntimeError,
        ) as error:  # settings can hold anything
            reason = " ".join(str(error).split())[:100]
            raise ModelError(f"{checkpoint}: its settings are not of a net that is known here ({reason})") from error
    side = out.with_name(f".{out.name}.partial")
    with disk.clear_errors(out, _ADVICE):
        shutil.rmtree(side, ignore_errors=True)
        try:
            side.mkdir(parents=True)
            with quiet():
                model.save_pretrained(side)
                _extractor(found).save_pretrained(side)
            (side / "README.md").write_text(_page(checkpoint, family, found, left_out), encoding="utf-8")
            side.rename(out)
        finally:
            shutil.rmtree(side, ignore_errors=True)
    return found


def _read_settings(place: Path) -> dict[str, Any]:
    try:
        return read_yaml(place.read_text(encoding="utf-8"), str(place))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: cannot be read: name a YAML or JSON file with the model's settings") from error


def _found(content: Any, told: dict[str, Any] | None) -> tuple[str, Found]:
    """Toolkit and net of a checkpoint."""
    if isinstance(content, Mapping):
        if "model_weight" in content:  # s3prl's copies of fairseq's files
            parts = {"task": content.get("task_cfg"), "model": content.get("model_cfg")}
            content = {"model": content["model_weight"], "cfg": parts}
        inside = {name: plain(content[name]) for name in _SETTINGS if name in content}
        if told is not None:
            inside = {"cfg": told, "Config": told}
        for family, (settings_of, kinds) in _FAMILIES.items():
            for recognised in kinds:
                if found := recognised(content, settings_of(inside)):
                    return family, found
    raise ModelError("none of the speech nets of fairseq or s3prl that are known here: name a pretrained one")


def _extractor(found: Found) -> Any:
    from transformers import Wav2Vec2FeatureExtractor

    rate = getattr(found.config, "sample_rate", 16_000)
    return Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=found.normalize, return_attention_mask=True)


def _page(checkpoint: Path, family: str, found: Found, left_out: list[str]) -> str:
    """Where the weights come from and what was done to them."""
    with checkpoint.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    name = found.model_class.__name__
    lines = [
        "---",
        f"library_name: {'transformers' if found.model_class.__module__.startswith('transformers.') else 'hfcourse'}",
        "---",
        f"# {found.kind}, converted from {family}",
        "",
        f"`{checkpoint.name}` ({checkpoint.stat().st_size:,} bytes, SHA-256 `{digest}`), as `{name}`. All of the net's",
        "weights are in it, in fp32; nothing was trained.",
        "",
    ]
    lines += [f"{note}\n" for note in found.notes]
    if left_out:
        lines += ["Weights that served training alone, and have no place in this class:", ""]
        lines += [f"- `{one}`" for one in left_out] + [""]
    lines += ["```", "hfcourse extract --model FOLDER AUDIO OUT", "```", ""]
    return "\n".join(lines)
