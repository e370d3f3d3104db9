"""Frames against torchaudio and transformers; folders of units: written whole, read back, others refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi
import torchaudio.functional

from hfcourse.backbones.speech.rate import state_counts
from hfcourse.data import frame_features, kmeans, units
from hfcourse.data.frame_features import Mfcc, pieces
from hfcourse.data.units import SplitUnits, Units
from hfcourse.errors import ConfigError, DataError, ModelError
from hfcourse.objectives.speech.layer_states import LayerStates, frames_of
from tests.objectives.speech import waves_clusters as waves

SECONDS = [1.0, 0.7, 1.3, 0.55, 0.9, 1.15]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    waves.net().save_pretrained(folder)
    waves.extractor().save_pretrained(folder)
    return folder


# Frames


def test_mfcc_is_kaldis_with_two_orders_of_differences() -> None:
    samples = waves.tones(3, 0.8)
    found = Mfcc(8000)(samples)
    still = torchaudio.compliance.kaldi.mfcc(torch.from_numpy(samples)[None], sample_frequency=8000, use_energy=False)
    assert found.shape == (1 + (6400 - 200) // 80, 39) and found.dtype == np.float32
    assert found[:, :13] == pytest.approx(still.numpy(), abs=1e-4)
    # Differences by hand: over two frames to each side, weighed by their distance, the ends repeated.
    padded = np.pad(still.numpy(), ((2, 2), (0, 0)), mode="edge")
    by_hand = sum(
        step * (padded[2 + step : len(padded) - 2 + step] - padded[2 - step : len(padded) - 2 - step]) for step in (1,)
    )
    by_hand = by_hand + 2 * (padded[4:] - padded[:-4])
    assert found[:, 13:26] == pytest.approx(by_hand / 10, abs=1e-4)
    again = torchaudio.functional.compute_deltas(torch.from_numpy(found[:, 13:26]).T.contiguous()).T
    assert found[:, 26:] == pytest.approx(again.numpy(), abs=1e-4)


def test_pieces_hold_each_frame_once() -> None:
    samples = np.arange(1000, dtype=np.float32)
    whole = [samples[at : at + 30] for at in range(0, 971, 10)]
    cut = [
        piece[at : at + 30]
        for piece in pieces(samples, hop=10, window=30, longest=250)
        for at in range(0, len(piece) - 29, 10)
    ]
    assert len(cut) == len(whole) and all((one == two).all() for one, two in zip(cut, whole, strict=True))
    (short,) = pieces(samples[:12], hop=10, window=30, longest=250)
    assert short.tolist() == [*range(12), *[0] * 18]


def test_a_layers_states_are_those_of_the_model_alone(saved: Path) -> None:
    samples = waves.tones(1, 0.7)
    frames = LayerStates(str(saved), 1)
    model = waves.net().eval()
    with torch.no_grad():
        scaled = torch.from_numpy((samples - samples.mean()) / np.sqrt(samples.var() + 1e-7))[None]
        output = model(scaled, output_hidden_states=True)
    found = frames(samples)
    assert found == pytest.approx(output.hidden_states[1][0].numpy(), abs=1e-5)
    assert len(found) == state_counts(model.config, len(samples))
    assert (frames.rate, frames.hop, frames.window) == (8000, 160, 220)


def test_a_model_is_known_by_its_weights(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    waves.net(seed=1).save_pretrained(other)
    waves.extractor().save_pretrained(other)
    one, two = LayerStates(str(saved), 0), LayerStates(str(other), 0)
    assert one.about["layer"] == 1  # of two layers the one in the middle
    assert not frame_features.same(one.about, two.about)
    assert frame_features.same(one.about, {**one.about, "model": "elsewhere"})


def test_models_that_cannot_serve_are_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match="it has the layers 1 to 2"):
        LayerStates(str(saved), 3)
    with pytest.raises(ModelError, match="hears 8000 samples a second, and what is trained 16000"):
        frames_of(str(saved), 1, 16_000)


# Folders


def made(folder: Path, clusters: int = 6, **changes: Any) -> tuple[Units, dict[str, Any]]:
    splits = {"train": waves.clips(SECONDS), "dev": waves.clips([0.6, 0.8], first=50)}
    return units.make(folder, splits, Mfcc(8000), clusters=clusters, seed=0, **changes), splits


def test_units_are_the_nearest_clusters_of_every_frame(tmp_path: Path) -> None:
    done, splits = made(tmp_path / "units")
    for split, clips in splits.items():
        there = done.of(split, clips)
        for row in range(len(clips)):
            frames = Mfcc(8000)(clips.waveforms([row])[0])
            assert (there.recording(row) == kmeans.nearest(frames, done.centres)).all()
    again = Units.open(tmp_path / "units")
    assert again.about == done.about and again.clusters == 6 and (again.hop, again.window) == (80, 200)
    assert (again.centres == done.centres).all()


def test_a_folder_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "units")
    monkeypatch.setattr(kmeans, "fit", lambda *a, **k: pytest.fail("clustered again"))
    made(tmp_path / "units")


def test_the_sample_that_is_clustered_changes_no_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters come from a few recordings, units from all."""
    monkeypatch.setattr(units, "_FIT_FRAMES", 150)
    done, splits = made(tmp_path / "units")
    there = done.of("train", splits["train"])
    frames = [Mfcc(8000)(splits["train"].waveforms([row])[0]) for row in range(len(SECONDS))]
    assert (there.units == kmeans.nearest(np.concatenate(frames), done.centres)).all()


def test_units_of_something_else_are_refused(tmp_path: Path, saved: Path) -> None:
    done, splits = made(tmp_path / "units")
    with pytest.raises(DataError, match="other recordings than train has"):
        done.of("train", waves.clips(SECONDS[:-1]))
    with pytest.raises(DataError, match="other recordings than train has"):
        done.of("train", waves.clips(SECONDS, first=7))  # as long, but other ones
    with pytest.raises(DataError, match="no units of a test split"):
        done.of("test", splits["dev"])
    with pytest.raises(DataError, match="6 clusters, not 7"):
        made(tmp_path / "units", clusters=7)
    with pytest.raises(DataError, match="clusters of mfcc, not of layer 1 of"):
        units.make(tmp_path / "units", splits, LayerStates(str(saved), 1), clusters=6, seed=0)
    about = {**done.about, "rate": 16_000}
    with pytest.raises(DataError, match="units of sound at 16000 Hz, and the model hears 8000"):
        Units(done.folder, about).of("train", splits["train"])


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of units"):
        Units.open(tmp_path)
    done, _ = made(tmp_path / "units")
    file = done.folder / "train.units"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match="missing or damaged"):
        Units.open(done.folder)
    for number, damage in enumerate(("offsets", "keys")):
        other, _ = made(tmp_path / f"other{number}")
        offsets = other.folder / "train.offsets.npy"
        if damage == "offsets":
            offsets.write_bytes(offsets.read_bytes()[:-8])
        else:
            about = {key: value for key, value in other.about.items() if key != "hop"}
            (other.folder / "units.json").write_text(json.dumps(about))
        with pytest.raises(DataError, match="missing or damaged"):
            Units.open(other.folder)
    (done.folder / "units.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="missing or damaged"):
        Units.open(done.folder)


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"9000 clusters of \d+ frames"):
        made(tmp_path / "units", clusters=9000)
    assert list(tmp_path.iterdir()) == []


def test_states_get_the_units_that_lie_under_them() -> None:
    """By hand: units every 80 samples of 200, states every 160 of 220, of recordings of 10 and 4 units."""
    split = SplitUnits(
        units=np.array([*range(100, 110), *range(200, 204)], dtype=np.uint16),
        offsets=np.array([0, 10, 14]),
        hop=80,
        window=200,
    )
    found = split.at(np.array([0, 1, 0]), np.array([0, 0, 240]), np.array([4, 1, 3]), stride=160, receptive=220)
    assert found.tolist() == [[100, 102, 104, 106], [200, -1, -1, -1], [103, 105, 107, -1]]
    # A crop that begins between two units takes the nearer one: 95 + 10 is nearest to 80, 115 + 10 to 160.
    found = split.at(np.array([0, 0]), np.array([95, 115]), np.array([1, 1]), stride=160, receptive=220)
    assert found.tolist() == [[101], [102]]
    # Where a recording has fewer units than states, its last one goes on.
    assert split.at(np.array([1]), np.array([0]), np.array([3]), stride=160, receptive=220).tolist() == [
        [200, 202, 203]
    ]


def test_mfcc_with_cmvn() -> None:
    samples = waves.tones(3, 0.8)
    plain, found = Mfcc(8000)(samples), Mfcc(8000, cmvn=True)(samples)
    assert found == pytest.approx((plain - plain.mean(axis=0)) / plain.std(axis=0), abs=1e-3)
    assert frames_of("", 0, 8000, cmvn=True).about == {"feature": "mfcc", "cmvn": True} != Mfcc(8000).about
    assert frame_features.shown(Mfcc(8000, cmvn=True).about) == "mfcc with cmvn"
