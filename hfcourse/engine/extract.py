"""States of recordings on disk: ``hfcourse extract --model M --layers 6 audio/ out/``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hfcourse import disk
from hfcourse.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from hfcourse.data.clips import Clips
    from hfcourse.tasks.base import SpeechContext

_ADVICE = "free some space, or give another folder"


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Whose states, which of them, and how they are written."""

    model: str
    """A run folder, a saved model, a Hub id, or the preset fbank."""
    layers: tuple[int, ...] = ()
    """Which layers, 0 for what goes into the lowest, negative ones from the top; all where not given."""
    dtype: Literal["float32", "float16"] = "float16"
    """Of the numbers on disk."""
    seconds: float = 60.0
    """Most padded seconds of sound in one forward pass."""
    strict: bool = False
    """Refuse recordings that hold no sound instead of leaving them out."""

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ConfigError(f"--seconds is {self.seconds}: it must be above 0")


def extract(config: ExtractConfig, audio: Path, out: Path) -> list[Path]:
    """Write the states of every recording below a folder (or of one file) as ``NAME.npy``, (layers, states, hidden).

    ``features.json`` beside them tells model, layers, rate and stride. A file is written whole or not at all; one that
    is there already, of the same settings and weights and no older than its recording, is not computed again.

    Raises:
        DataError: no recordings; under `strict`, one that holds no sound.
        ModelError: no such model, or one that does not hear. ConfigError: a layer that it does not have.
        RunFolderError: a folder of other settings, or one that cannot be written.
    """
    import torch

    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.backbones.speech.rate import longest
    from hfcourse.data.frame_features import weights_hash
    from hfcourse.engine.progress import bar, say
    from hfcourse.tasks.sound import clips_of, context_of

    context = context_of(config.model, BackboneConfig(), strict=config.strict)
    table = _recordings(audio)
    clips = clips_of(table, str(audio), context)
    for note in context.notes:
        say(note)
    most = longest(context.backbone)
    if most and (cut := int((clips.samples > most).sum())):
        say(f"{audio}: {cut} of {len(clips)} recordings are longer than {most / context.rate:g} s: no more is heard")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = _backbone(config.model).to(device).eval()
    layers = _layers(config.layers, backbone.config.num_hidden_layers)
    with disk.clear_errors(out, _ADVICE):
        out.mkdir(parents=True, exist_ok=True)
        _agree(out / "features.json", _description(config, context, layers) | {"weights": weights_hash(backbone)})
        places = [out / Path(row["id"]).with_suffix(".npy") for row in clips.take(range(len(clips)))]
        missing = [number for number, place in enumerate(places) if _is_due(place, Path(clips.names[number]))]
        with bar(f"states of {audio.name}", len(missing)) as progress:
            done = 0
            for rows, states in _states(backbone, clips, missing, layers, context, config, device):
                for row, found in zip(rows, states, strict=True):
                    _write(places[row], found)
                progress.update(done := done + len(rows))
    return places


def _recordings(audio: Path) -> Any:
    """A table of the recordings below a folder, ``id`` their paths in it."""
    import datasets

    from hfcourse.data.audio import ENDINGS

    if not audio.exists():
        raise DataError(f"{audio}: no such file or folder")
    files = [audio] if audio.is_file() else sorted(p for p in audio.rglob("*") if p.suffix.lower() in ENDINGS)
    if not files:
        raise DataError(f"{audio}: no recordings in here ({', '.join(sorted(ENDINGS))})")
    names = [file.name if audio.is_file() else str(file.relative_to(audio)) for file in files]
    stems = [str(Path(name).with_suffix("")) for name in names]
    stem, count = Counter(stems).most_common(1)[0]
    if count > 1:
        raise DataError(f"{audio}: several recordings are called {stem}: their states would be one file")
    cells = [{"path": str(file.resolve()), "bytes": None} for file in files]
    return datasets.Dataset.from_dict({"id": names, "audio": cells})


def _backbone(name: str) -> Any:
    from hfcourse import model as models
    from hfcourse.heads.spec import HeadSpec

    net: Any = models.build(name, HeadSpec(kind="none"))
    return net.get_encoder() if net.config.model_type == "whisper" else net


def _layers(asked: Sequence[int], count: int) -> list[int]:
    """Numbers from 0 to `count`.

    Raises:
        ConfigError: a layer that there is not.
    """
    for number in asked:
        if not -count - 1 <= number <= count:
            raise ConfigError(f"--layers {number}: the model has layers 0 to {count}")
    return [number % (count + 1) for number in asked] or list(range(count + 1))


def _description(config: ExtractConfig, context: SpeechContext, layers: list[int]) -> dict[str, Any]:
    from hfcourse.backbones.speech.rate import stride

    place = Path(config.model)
    return {
        "model": str(place.resolve()) if place.is_dir() else config.model,
        "layers": layers,
        "dtype": config.dtype,
        "rate": context.rate,
        "stride": stride(context.backbone),
        "shape": ["layers", "states", "hidden"],
    }


def _agree(place: Path, description: dict[str, Any]) -> None:
    """Write what the folder holds, or refuse one that holds something else."""
    from hfcourse.errors import RunFolderError

    if not place.is_file():
        place.write_text(json.dumps(description, indent=1) + "\n")
        return
    try:
        found = json.loads(place.read_text())
    except json.JSONDecodeError:
        found = {}
    other = [key for key, value in description.items() if found.get(key) != value]
    if other:
        raise RunFolderError(f"{place.parent} holds states with other {other[0]}: give another folder")


def _states(
    backbone: Any,
    clips: Clips,
    rows: list[int],
    layers: list[int],
    context: SpeechContext,
    config: ExtractConfig,
    device: Any,
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Rows of a batch and their states, (layers, states, hidden) each, computed on `device` (fbank has no weight)."""
    import numpy as np
    import torch

    from hfcourse.data.batching import plan
    from hfcourse.engine.evaluate import to_device
    from hfcourse.tasks.sound import inputs_of, states_in

    numbers = np.array(rows, dtype=np.int64)
    steps = [
        numbers[s] for s in plan(clips.lengths[numbers], examples=64, tokens=int(100 * config.seconds), shuffle=False)
    ]
    for at, step in enumerate(steps):
        batch = inputs_of(clips.waveforms(step), context)
        if at + 1 < len(steps):
            clips.expect(steps[at + 1])
        counts = states_in(batch, context)
        sound = to_device({key: value for key, value in batch.items() if key != "sample_counts"}, device)
        with torch.inference_mode():
            hidden = backbone(**sound, output_hidden_states=True).hidden_states
        chosen = torch.stack([hidden[layer] for layer in layers], dim=1).to(getattr(torch, config.dtype)).cpu().numpy()
        yield step, [one[:, :count] for one, count in zip(chosen, counts, strict=True)]


def _is_due(place: Path, recording: Path) -> bool:
    """Whether the states of a recording are not there, or older than it."""
    return not place.is_file() or place.stat().st_mtime_ns < recording.stat().st_mtime_ns


def _write(place: Path, states: np.ndarray) -> None:
    """Whole or not at all."""
    import numpy as np

    place.parent.mkdir(parents=True, exist_ok=True)
    side = place.with_name(f".{place.name}.partial")
    with side.open("wb") as file:
        np.save(file, states)
    side.replace(place)
