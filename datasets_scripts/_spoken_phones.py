"""The 39 phones of English by their ARPABET names, and which of them each of espeak-ng's English phonemes is."""

from __future__ import annotations

# Phone -> espeak's phonemes, in all its dialects of English and in the accents of `_spoken_voices`.
_PHONEMES = {
    "aa": "0 O2 A: A@ A",
    "ae": "a aa a2",
    "ah": "V @ @2 @5 @- a# VR",
    "ao": "O: O@ o@ O o",
    "aw": "aU aU@",
    "ay": "aI aI2 aI3 aI@",
    "eh": "E e@ E2",
    "er": "3 3: @r ER IR",
    "ey": "eI e: e",
    "ih": "I I2 I# i@ i@3",
    "iy": "i i:",
    "ow": "oU o:",
    "oy": "OI",
    "uh": "U U@ 8",
    "uw": "u: u uR",
    "b": "b",
    "ch": "tS",
    "d": "d d[",
    "dh": "D",
    "f": "f",
    "g": "g",
    "hh": "h",
    "jh": "dZ",
    "k": "k x",
    "l": "l @L l^ L",
    "m": "m m-",
    "n": "n n-",
    "ng": "N",
    "p": "p",
    "r": "r r- R *",
    "s": "s",
    "sh": "S",
    "t": "t t2 t# t[",
    "th": "T",
    "v": "v",
    "w": "w w#",
    "y": "j",
    "z": "z",
    "zh": "Z",
    # No sounds of their own: a glottal stop, the glide from one vowel into the next.
    "": "? ;",
}
ARPABET = {phoneme: phone for phone, phonemes in _PHONEMES.items() for phoneme in phonemes.split()}
PHONES = tuple(phone for phone in _PHONEMES if phone)
