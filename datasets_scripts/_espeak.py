"""Speech by espeak-ng, through the library that PyPI's ``espeakng-loader`` brings (extra ``speech``).

The library keeps its state in globals, some of which nothing resets (the flutter of the pitch goes on where the last
utterance left it). So each `Espeak` loads a copy of its own, which takes milliseconds: what it says depends on what it
said before, and on nothing else in the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

PACKAGE = "espeakng-loader"
# From speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _DONT_EXIT = 2, 0x1, 0x8000
_UTF8, _PHONEMES = 0x1, 0x100
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_END_OF_EVENTS, _PHONEME = 0, 7
# What it holds of the path to its data, less the names that it adds.
_LONGEST_PATH = 130


@dataclass(frozen=True)
class Voice:
    """A language with a variant (``gmw/en-US+f3``), words a minute, and pitch, its range and volume from 0 to 100."""

    name: str
    rate: int = 175
    pitch: int = 50
    range: int = 50
    volume: int = 100


@dataclass(frozen=True)
class Speech:
    """16-bit samples and, in order, each phoneme (espeak's own name, without stress) with its first sample.

    Pauses are phonemes too; their names begin with ``_``.
    """

    samples: np.ndarray
    phonemes: list[tuple[str, int]]


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


def version() -> str:
    """Of the package that brings the library; ``none`` where it is not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "none"


class Espeak:
    """One copy of the library; a context manager. What two copies say in the same order is the same to the byte.

    Raises:
        FileNotFoundError: the library is not installed, or this machine cannot load it.
        ValueError: it finds no data; no voice of a name.
    """

    def __init__(self) -> None:
        library, data = _paths()
        self._folder = tempfile.TemporaryDirectory(prefix="espeak-", ignore_cleanup_errors=True)
        self._bytes: list[bytes] = []
        self._phonemes: list[tuple[str, int]] = []
        try:
            self._library = _loaded(shutil.copy(library, self._folder.name))
            self.rate = self._initialise(_short(data, self._folder.name))
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Espeak:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._library.espeak_Terminate()
        self._folder.cleanup()

    def say(self, text: str, voice: Voice, seed: int = 1, *, phonemes: bool = False) -> Speech:
        """Speech of a text, or of what `transcribed` gives.

        Args:
            text: in the voice's language; or espeak's names of phonemes.
            voice: who speaks and how.
            seed: of the noise in breath and consonants.
            phonemes: whether the text is one of phonemes.
        """
        self._take(voice, seed)
        self._bytes.clear()
        self._phonemes.clear()
        raw = (f"[[{text}]]" if phonemes else text).encode() + b"\0"
        flags = _UTF8 | (_PHONEMES if phonemes else 0)
        failed = self._library.espeak_Synth(raw, ctypes.c_size_t(len(raw)), 0, 0, 0, flags, None, None)
        if failed:
            raise ValueError(f"espeak-ng could not say {text!r} with the voice {voice.name!r} (error {failed})")
        return Speech(np.frombuffer(b"".join(self._bytes), np.int16), list(self._phonemes))

    def transcribed(self, text: str, voice: Voice) -> str:
        """A text in espeak's names of phonemes, with a pause between clauses."""
        self._take(voice, 1)
        rest = ctypes.c_char_p(text.encode())
        clauses = []
        while rest.value:
            clauses.append(self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, 0).decode())
        return " _: ".join(clauses)

    def _take(self, voice: Voice, seed: int) -> None:
        if self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise ValueError(f"espeak-ng has no voice {voice.name!r}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        values = {_RATE: voice.rate, _VOLUME: voice.volume, _PITCH: voice.pitch, _RANGE: voice.range}
        for parameter, value in values.items():
            self._library.espeak_SetParameter(parameter, value, 0)

    def _initialise(self, data: str) -> int:
        rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(data), ctypes.c_int(_PHONEME_EVENTS | _DONT_EXIT)
        )
        if rate <= 0:
            raise ValueError(f"{data}: espeak-ng cannot read its data there: install {PACKAGE} again")
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        # Kept: the library calls it for as long as it lives.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        return int(rate)

    def _receive(self, samples: int | None, count: int, events: Any) -> int:
        """Called for every fifth of a second of speech; 0 asks for more."""
        if samples and count > 0:
            self._bytes.append(ctypes.string_at(samples, 2 * count))
        number = 0
        while events[number].type != _END_OF_EVENTS:
            if events[number].type == _PHONEME:
                name = events[number].id.string.decode(errors="replace").lstrip("',%=")
                self._phonemes.append((name, events[number].sample))
            number += 1
        return 0


def _paths() -> tuple[str, str]:
    try:
        import espeakng_loader

        return espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except (ImportError, RuntimeError) as error:
        raise FileNotFoundError(f"speech is made by espeak-ng ({error}): pip install 'hfcourse[speech]'") from error


def _loaded(path: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"cannot load espeak-ng ({reason}): pip install 'hfcourse[speech]'") from error


def _short(data: str, folder: str) -> str:
    """A path to the data that is short enough for the library: a link beside its copy, where links can be made."""
    with contextlib.suppress(OSError):
        link = Path(folder) / "espeak-ng-data"
        link.symlink_to(data, target_is_directory=True)
        data = str(link)
    if len(os.fsencode(data)) > _LONGEST_PATH:
        raise ValueError(
            f"{data}: longer than the {_LONGEST_PATH} bytes that espeak-ng reads: set TMPDIR to a short one"
        )
    return data
