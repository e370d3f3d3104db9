"""Speeds and masks by hand: lengths, pitch, widths and places; the same draws whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from hfcourse.data import augment
from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.errors import ConfigError
from tests.sounds import RATE, tone

SPEEDS = AugmentConfig(speeds=(0.9, 1.0, 1.1))


def pitch(samples: np.ndarray) -> float:
    """The loudest frequency, in Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples))


@pytest.mark.parametrize(("speed", "length"), [(0.9, 17778), (1.0, 16000), (1.1, 14546), (0.75, 21334)])
def test_a_tone_gets_higher_and_shorter(speed: float, length: int) -> None:
    samples = tone(400, 1.0, noise=0.0)
    found = augment.played(samples, speed)
    assert len(found) == length == -(-16000 // np.float64(speed))  # by hand: the seconds over the speed
    assert pitch(found) == pytest.approx(400 * speed, abs=1.0) and found.dtype == np.float32
    assert augment.played_lengths(np.array([16000]), np.array([speed])).tolist() == [length]
    assert np.abs(found).max() == pytest.approx(0.3, abs=0.02)


def test_a_telephone_keeps_what_is_low() -> None:
    low, high = tone(1000, 0.5, noise=0.0), tone(6000, 0.5, noise=0.0)
    found = augment.telephoned(low + high, RATE)
    inside = slice(200, -200)
    assert found.shape == low.shape and found[inside] == pytest.approx(low[inside], abs=0.003)
    assert (augment.telephoned(low[:1001], 44_100)).shape == (1001,)
    assert augment.telephoned(low, 8000) is low


def test_telephones_are_drawn_for_the_row_and_the_epoch() -> None:
    high = tone(6000, 0.02, noise=0.0)

    def drawn(share: float, rows: np.ndarray, epoch: int = 0) -> np.ndarray:
        settings, waves = AugmentConfig(narrow=share), [high] * len(rows)
        found = augment.over_telephones(settings, waves, RATE, seed=1, epoch=epoch, rows=rows)
        return np.array([np.abs(wave).max() < 0.1 for wave in found])

    rows = np.arange(1000)
    first = drawn(0.25, rows)
    assert first.mean() == pytest.approx(0.25, abs=0.04)
    assert (drawn(0.25, rows[[9, 2]]) == first[[9, 2]]).all() and (drawn(0.25, rows, epoch=1) != first).any()
    assert drawn(1.0, rows).all() and not drawn(1.0, rows, epoch=-1).any()


def test_what_is_needed_is_enough() -> None:
    speeds = np.array([0.5, 0.9, 1.0, 1.1, 1.37, 2.0])
    needed = augment.needed_lengths(8000, speeds)
    assert needed.tolist() == [4000, 7200, 8000, 8800, 10960, 16000]  # by hand
    assert (augment.played_lengths(needed, speeds) == 8000).all()


def test_speeds_are_drawn_for_the_row_and_the_epoch() -> None:
    rows = np.arange(3000)
    found = augment.speeds(SPEEDS, 1, 0, rows)
    assert {speed: round((found == speed).mean(), 1) for speed in SPEEDS.speeds} == dict.fromkeys(SPEEDS.speeds, 0.3)
    assert (augment.speeds(SPEEDS, 1, 0, rows[[7, 3]]) == found[[7, 3]]).all()
    for seed, epoch in ((2, 0), (1, 1)):
        assert (augment.speeds(SPEEDS, seed, epoch, rows) == found).mean() == pytest.approx(1 / 3, abs=0.05)
    assert (augment.speeds(SPEEDS, 1, -1, rows) == 1).all() and (augment.speeds(AugmentConfig(), 1, 0, rows) == 1).all()


def test_masks_by_hand() -> None:
    """Widths 0 to the widest, begun wherever they fit; two masks may meet."""
    draws = np.array([[0.0, 0.5, 0.99, 0.0], [0.5, 0.99, 0.5, 0.0], [0.99, 0.99, 0.0, 0.0]])
    found = augment.spans(np.array([8, 8, 2]), np.array([3, 4, 9]), draws, 8)
    assert found.astype(int).tolist() == [
        [1, 1, 1, 0, 0, 0, 0, 0],  # widths 0.0 x 4 = 0 and 0.99 x 4 = 3, the latter from 0.0 x 6 = 0 on
        [1, 1, 0, 0, 0, 0, 1, 1],  # both 0.5 x 5 = 2, from 0.99 x 7 = 6 and from 0 on
        [1, 1, 0, 0, 0, 0, 0, 0],  # 0.99 x 10 = 9, but no more than the row has
    ]


def test_widths_are_uniform_and_lie_anywhere() -> None:
    settings = AugmentConfig(time_masks=1, time_width=0.2, time_share=1.0, channel_masks=1, channel_width=0.25)
    rows, states = np.arange(4000), np.full(4000, 30)
    found = augment.masks(settings, 0, 0, rows, states, per_second=50, channels=40)
    time, channels = found["mask_time_indices"], found["mask_feature_indices"]
    assert time.shape == (4000, 30) and channels.shape == (4000, 40)
    for masks in (time, channels):  # 0.2 s of 50 states, and a quarter of 40 channels: 10 at most
        widths = masks.sum(axis=1)
        assert widths.max() == 10 and np.bincount(widths) / 4000 == pytest.approx(1 / 11, abs=0.02)
        assert (np.abs(np.diff(masks, axis=1, prepend=False, append=False).astype(int)).sum(axis=1) <= 2).all()
        assert masks[:, 0].any() and masks[:, -1].any()


def test_no_mask_is_wider_than_its_share_of_the_row() -> None:
    settings = AugmentConfig(time_masks=1, time_width=5.0, time_share=0.2)
    states = np.array([3, 10, 50] * 500)
    found = augment.masks(settings, 0, 0, np.arange(1500), states, per_second=50, channels=8)
    assert found.keys() == {"mask_time_indices"}
    widths = found["mask_time_indices"].sum(axis=1).reshape(-1, 3).max(axis=0)
    assert widths.tolist() == [0, 2, 10]
    assert not found["mask_time_indices"][np.arange(50) >= states[:, None]].any()


def test_masks_depend_on_seed_epoch_and_row_alone() -> None:
    settings = AugmentConfig(time_masks=2, channel_masks=2)
    rows, states = np.arange(6), np.array([40, 90, 60, 50, 70, 80])
    kwargs = {"per_second": 50.0, "channels": 20}
    whole = augment.masks(settings, 3, 2, rows, states, **kwargs)
    alone = augment.masks(settings, 3, 2, rows[2:3], states[2:3], **kwargs)
    assert (whole["mask_time_indices"][2, :60] == alone["mask_time_indices"][0]).all()
    assert (whole["mask_feature_indices"][2] == alone["mask_feature_indices"][0]).all()
    for seed, epoch in ((4, 2), (3, 3)):
        other = augment.masks(settings, seed, epoch, rows, states, **kwargs)
        assert all((other[name] != whole[name]).any() for name in whole)
    assert augment.masks(settings, 3, -1, rows, states, **kwargs) == {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"speeds": (1.0, 3.0)}, "augment.speeds has 3: it must be 0.5 to 2"),
        ({"narrow": 1.5}, "augment.narrow is 1.5: it is a share and must lie between 0 and 1"),
        ({"time_masks": -1}, "augment.time_masks is -1: it must be 0 or more"),
        ({"channel_width": 0.0}, "augment.channel_width is 0.0: it must be above 0 and at most 1"),
        ({"time_width": -1.0}, "augment.time_width is -1.0: it must be above 0 seconds"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**wrong)  # type: ignore[arg-type]
