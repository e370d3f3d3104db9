from __future__ import annotations

import numpy as np
import pytest
from hfcourse_datasets._augment import (
    NOISES,
    RATE,
    Conditions,
    at_snr,
    levelled,
    microphone,
    noise,
    quantised,
    recorded,
    resampled,
    room,
    telephone,
    through,
)

DECIBELS = 20.0


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def tone(hertz: float, rate: int = RATE, seconds: float = 1.0) -> np.ndarray:
    return (np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate) / 2).astype(np.float32)


def loudest(samples: np.ndarray) -> float:
    """The frequency of the largest line of the spectrum, in hertz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(len(samples))))) * RATE / len(samples))


def level(samples: np.ndarray) -> float:
    return DECIBELS * float(np.log10(np.sqrt(np.mean(samples.astype(np.float64) ** 2))))


@pytest.mark.parametrize("speed", [1.0, 0.92, 1.07])
def test_resampling_keeps_pitch_and_moments_but_for_the_speed(speed: float) -> None:
    assert loudest(resampled(tone(440, 22050, 2.0), 22050, speed)) == pytest.approx(440 * speed, abs=1.5)
    click = np.zeros(22050, np.float32)
    click[11025] = 1
    heard = resampled(click, 22050, speed)
    assert np.argmax(heard) / RATE == pytest.approx(0.5 / speed, abs=2e-4)
    assert len(heard) == pytest.approx(RATE / speed, abs=2)


def test_a_room_has_direct_sound_reflections_and_a_tail_that_dies_away() -> None:
    for seed in range(20):
        impulse = room(np.random.default_rng(seed))
        assert impulse[0] == 1 == np.abs(impulse[: RATE // 100]).max()
        third = len(impulse) // 3
        energies = [np.sum(part**2) for part in (impulse[:third], impulse[third : 2 * third], impulse[2 * third :])]
        assert energies[0] > 10 * energies[1] > 100 * energies[2]
        assert 0.1 * RATE < len(impulse) < 0.7 * RATE


def test_a_response_is_convolution_and_gain() -> None:
    sound, impulse = rng().standard_normal(500).astype(np.float32), np.array([1, 0, 0.5], np.float32)
    flat = np.zeros(15)
    assert np.allclose(through(sound, impulse, flat), np.convolve(sound, impulse), atol=1e-5)
    assert np.allclose(through(sound, impulse[:1], flat - 6), sound * 10**-0.3, atol=1e-5)
    for hertz, lower in ((100, 35), (1000, 0), (7000, 35)):
        lost = level(tone(hertz)) - level(through(tone(hertz), impulse[:1], telephone()))
        assert lost == pytest.approx(lower, abs=6), hertz


def test_microphones_differ_from_octave_to_octave() -> None:
    drawn = np.array([microphone(np.random.default_rng(seed), 5.0) for seed in range(400)])
    assert drawn.shape == (400, 15)
    assert drawn[:, ::2].std() == pytest.approx(5, rel=0.1)
    assert np.allclose(drawn[:, 1], (drawn[:, 0] + drawn[:, 2]) / 2)


def test_noises_by_their_spectra() -> None:
    def below(sound: np.ndarray, hertz: float) -> float:
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float(power[: int(hertz * len(sound) / RATE)].sum() / power.sum())

    white, pink, hum = (noise(kind, 2 * RATE, rng()) for kind in NOISES[:3])
    assert below(white, 1000) == pytest.approx(1 / 8, abs=0.02)
    # Equal power in each octave: from 30 to 8000 Hz (and below 30) there are 8, up to 1000 Hz 5.
    assert 0.55 < below(pink, 1000) < 0.75
    assert below(hum, 500) > 0.9 and loudest(hum) in (50, 60)
    voices = [tone(hertz) for hertz in (200, 300, 400, 500, 600)]
    babble = noise("babble", 3 * RATE, rng(), voices)
    assert len(babble) == 3 * RATE
    lines = np.abs(np.fft.rfft(babble))[[600, 900, 1200, 1500, 1800]]
    assert sum(lines > 0.1 * lines.max()) == 4


def test_the_ratio_of_speech_and_noise_is_the_one_asked_for() -> None:
    speech, sound = tone(300), noise("white", RATE, rng())
    for snr in (-5, 0, 12.5):
        assert level(speech) - level(at_snr(speech, sound, snr)) == pytest.approx(snr, abs=1e-3)


def test_levels_and_clipping() -> None:
    assert level(levelled(tone(300), -30)) == pytest.approx(-30, abs=1e-3)
    assert np.abs(levelled(tone(300), 10)).max() == pytest.approx(0.98)
    assert np.abs(levelled(np.zeros(10, np.float32), -20)).max() == 0
    assert quantised(np.array([0, 0.5, -2, 2], np.float32)).tolist() == [0, 16384, -32768, 32767]


def test_a_recording_without_anything_is_what_was_said() -> None:
    nothing = Conditions(snr=None, room=0, microphone=0, telephone=0, level=None)
    assert np.allclose(recorded(tone(300), rng(), nothing), tone(300), atol=1e-5)


def test_a_recording_under_conditions() -> None:
    quiet = Conditions(snr=(10, 10), room=0, microphone=0, telephone=0, level=(-25, -25))
    heard = recorded(tone(1000), rng(), quiet)
    assert level(heard) == pytest.approx(-25, abs=1e-3)
    power = np.abs(np.fft.rfft(heard)) ** 2
    speech = power[1000]
    assert 10 * np.log10(speech / (power.sum() - speech)) == pytest.approx(10, abs=0.3)
    assert len(recorded(tone(300), rng(), Conditions(room=1))) > RATE
    assert np.array_equal(recorded(tone(300), rng(), Conditions()), recorded(tone(300), rng(), Conditions()))
