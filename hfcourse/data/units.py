"""Units: the cluster of every frame of every recording, in a folder that training reads by memory map.

``units.json`` says what they were made from, ``centres.npy`` (K, D) holds the clusters, ``<split>.units`` the units of
all recordings of a split one after another (uint16), ``<split>.offsets.npy`` where each recording begins, and the end.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hfcourse import disk
from hfcourse.data import kmeans
from hfcourse.data.clips import Clips
from hfcourse.data.frame_features import Frames, same, shown
from hfcourse.errors import DataError

_LAYOUT = 1
"""Changes when folders made by an earlier version are no longer right."""
_ABOUT = "units.json"
_FIT_FRAMES, _FIT_VALUES = 500_000, 60_000_000
"""Most frames, and most numbers in them, that clusters are looked for in; beyond that a sample is as good."""
_DECODED_AHEAD = 16
"""Recordings."""


@dataclass(frozen=True)
class Units:
    """The units of a corpus, as `make` left them."""

    folder: Path
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Units:
        """Units that lie in a folder.

        Raises:
            DataError: there are none, or not whole.
        """
        folder = Path(folder).expanduser()
        try:
            about = json.loads((folder / _ABOUT).read_text())
            whole = (
                about["layout"] == _LAYOUT
                and about.keys() >= {"frames", "clusters", "rate", "hop", "window"}
                and all(_is_whole(folder, split, made["frames"]) for split, made in about["splits"].items())
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError):
            whole = False
        if not whole:
            raise DataError(
                f"{folder}: no folder of units (its {_ABOUT} is missing or damaged): name the units of a hubert run"
            )
        return cls(folder, about)

    @property
    def clusters(self) -> int:
        """How many there are."""
        return int(self.about["clusters"])

    @property
    def hop(self) -> int:
        """Samples from one unit to the next."""
        return int(self.about["hop"])

    @property
    def window(self) -> int:
        """Samples that a unit is made of."""
        return int(self.about["window"])

    @cached_property
    def centres(self) -> np.ndarray:
        """Of the clusters, (K, D)."""
        found: np.ndarray = np.load(self.folder / "centres.npy")
        return found

    def refuse_others(self, frames: Frames, clusters: int) -> None:
        """Raise DataError where these units are clusters of something else."""
        where, made_from = self.folder, self.about["frames"]
        if not same(made_from, frames.about):
            raise DataError(
                f"{where}: clusters of {shown(made_from)}, not of {shown(frames.about)}: name another folder, or "
                "remove this one to have them made anew"
            )
        if self.clusters != clusters:
            raise DataError(f"{where}: {self.clusters} clusters, not {clusters}: set --method.clusters, or remove it")

    def of(self, split: str, clips: Clips) -> SplitUnits:
        """The units of a split's recordings.

        Raises:
            DataError: they were made of other recordings, or at another rate.
        """
        made = self.about["splits"].get(split)
        if self.about["rate"] != clips.rate:
            raise DataError(
                f"{self.folder}: units of sound at {self.about['rate']} Hz, and the model hears {clips.rate}: "
                "make others"
            )
        if made is None or made["recordings"] != hash_of(clips):
            what = f"no units of a {split} split" if made is None else f"units of other recordings than {split} has"
            raise DataError(f"{self.folder}: {what}: name the folder that was made of this data, with the same limits")
        return SplitUnits(
            units=np.memmap(self.folder / f"{split}.units", dtype=np.uint16, mode="r"),
            offsets=np.load(self.folder / f"{split}.offsets.npy"),
            hop=self.hop,
            window=self.window,
        )


def _is_whole(folder: Path, split: str, frames: int) -> bool:
    ends = int(np.load(folder / f"{split}.offsets.npy")[-1]) == frames
    return ends and (folder / f"{split}.units").stat().st_size == 2 * frames


@dataclass(frozen=True)
class SplitUnits:
    """The units of the recordings of one split."""

    units: np.ndarray
    """Of all, uint16 (U,)."""
    offsets: np.ndarray
    """Where each recording's begin, and the end, int64 (rows + 1,)."""
    hop: int
    window: int

    def recording(self, row: int) -> np.ndarray:
        """All units of a recording."""
        return self.units[self.offsets[row] : self.offsets[row + 1]]

    def at(
        self,
        rows: np.ndarray,
        begins: np.ndarray,
        states: np.ndarray,
        *,
        stride: int,
        receptive: int,
        speeds: np.ndarray | float = 1.0,
    ) -> np.ndarray:
        """The unit of each state, int64 (B, S), -1 behind a row's last: the one whose middle is nearest to its own.

        Args:
            rows: numbers of recordings, (B,).
            begins: the first sample that is heard of each, (B,).
            states: states of each, (B,).
            stride: samples from one state to the next.
            receptive: samples that a state is made of.
            speeds: how fast each recording is played, (B,).
        """
        at = np.arange(int(states.max()))
        speeds = np.broadcast_to(speeds, len(rows))[:, None]
        middle = begins[:, None] + (at * stride + receptive / 2) * speeds - self.window / 2
        # The earlier one of two that are as near.
        number = np.ceil(middle / self.hop - 0.5).astype(np.int64)
        first, last = self.offsets[rows][:, None], self.offsets[np.asarray(rows) + 1][:, None] - 1
        places = np.clip(first + number, first, last)
        found: np.ndarray = np.where(at < states[:, None], self.units[places].astype(np.int64), -1)
        return found


def make(folder: Path, splits: Mapping[str, Clips], frames: Frames, *, clusters: int, seed: int) -> Units:
    """Cluster the training recordings' frames, and number those of every split; a folder that is there is taken.

    Clusters are looked for in the frames of recordings in an order drawn by `seed`, up to half a million.

    Args:
        folder: is written whole or not at all.
        splits: recordings, ``train`` among them.
        frames: what is clustered.
        clusters: how many, up to 65,536.
        seed: of the order and of the start.

    Raises:
        DataError: more clusters than frames; a folder that holds units of something else.
    """
    if folder.is_dir():
        there = Units.open(folder)
        there.refuse_others(frames, clusters)
        for split, clips in splits.items():
            there.of(split, clips)
        return there
    side = folder.with_name(f".{folder.name}.partial")
    with disk.clear_errors(folder):
        shutil.rmtree(side, ignore_errors=True)
        side.mkdir(parents=True)
        try:
            known = _sample(splits["train"], frames, seed)
            centres = kmeans.fit(np.concatenate(list(known.values())), clusters, seed=seed)
            np.save(side / "centres.npy", centres)
            made = {}
            for split, clips in splits.items():
                found = _write(side, split, clips, frames, centres, known if split == "train" else {})
                made[split] = {"frames": found, "recordings": hash_of(clips)}
            about = {
                "layout": _LAYOUT,
                "frames": frames.about,
                "clusters": clusters,
                "rate": frames.rate,
                "hop": frames.hop,
                "window": frames.window,
                "seed": seed,
                "splits": made,
            }
            (side / _ABOUT).write_text(json.dumps(about, indent=1))
            disk.swap(side, folder)
        finally:
            shutil.rmtree(side, ignore_errors=True)
    return Units.open(folder)


def hash_of(clips: Clips) -> str:
    """A hash of which recordings there are, in which order and how long."""
    digest = hashlib.sha256(json.dumps([clips.rate, len(clips)]).encode())
    digest.update(clips.whole.astype("<i8").tobytes())
    digest.update("\0".join(clips.names).encode())
    return digest.hexdigest()[:32]


def _sample(clips: Clips, frames: Frames, seed: int) -> dict[int, np.ndarray]:
    """The frames of recordings in a drawn order, as many as clusters are looked for in."""
    known: dict[int, np.ndarray] = {}
    count = 0
    for row, samples in _decoded(clips, np.random.default_rng([seed, len(clips)]).permutation(len(clips))):
        known[row] = frames(samples)
        count += len(known[row])
        if count >= min(_FIT_FRAMES, _FIT_VALUES // known[row].shape[1]):
            break
    return known


def _write(
    side: Path, split: str, clips: Clips, frames: Frames, centres: np.ndarray, known: Mapping[int, np.ndarray]
) -> int:
    """Units and offsets of a split; returns how many units there are."""
    lengths = []
    unknown = _decoded(clips, [row for row in range(len(clips)) if row not in known])
    with (side / f"{split}.units").open("wb") as file:
        for row in range(len(clips)):
            found = kmeans.nearest(known[row] if row in known else frames(next(unknown)[1]), centres)
            file.write(found.tobytes())
            lengths.append(len(found))
    np.save(side / f"{split}.offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return sum(lengths)


def _decoded(clips: Clips, rows: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Rows and their samples; the next few are decoded meanwhile."""
    numbers = [int(row) for row in rows]
    for at, row in enumerate(numbers):
        clips.expect(numbers[at : at + _DECODED_AHEAD])
        yield row, clips.waveforms([row])[0]
