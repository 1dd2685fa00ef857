"""Lets eSpeak NG speak, and tells when it says which phoneme.

A program of its own, so that the library can stand in a directory that goes away again. It is given
the directory of the library and of its voices, and a file with a JSON list of [voice, pitch of 0 to
100, words a minute, text, wav file to write]. It prints a line of JSON for each of them: a list of
[phoneme in eSpeak's own notation, start in milliseconds].

Its header, `speak_lib.h` of version 1.52, tells the numbers and structures here.
"""

import ctypes
import json
import os
import sys
import wave

SYNCHRONOUS, PHONEMES_AND_NO_EXIT = 2, 0x8001
MILLISECONDS_AT_ONCE = 500
SPEED, PITCH = 1, 3
UTF8, CHARACTERS = 1, 1
NONE, PHONEME = 0, 7


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def main(library, voices, file):
    espeak = ctypes.CDLL(library)
    rate = espeak.espeak_Initialize(
        SYNCHRONOUS, MILLISECONDS_AT_ONCE, os.fsencode(voices), PHONEMES_AND_NO_EXIT
    )
    if rate <= 0:
        sys.exit(f"it finds no voices in {voices}")
    audio, phonemes = [], []

    @CALLBACK
    def heard(samples, count, events):
        if samples and count > 0:
            audio.append(ctypes.string_at(samples, 2 * count))
        place = 0
        while events[place].type != NONE:
            if events[place].type == PHONEME:
                name = bytes(events[place].id.text).decode()
                phonemes.append([name, events[place].milliseconds])
            place += 1
        return 0

    espeak.espeak_SetSynthCallback(heard)
    with open(file, encoding="utf-8") as stream:
        lines = json.load(stream)
    for voice, pitch, words_a_minute, text, wav in lines:
        audio.clear()
        phonemes.clear()
        # It keeps the voice before where it does not know one, and tells only by this number.
        if espeak.espeak_SetVoiceByName(voice.encode()):
            sys.exit(f"it does not know the voice {voice}")
        espeak.espeak_SetParameter(SPEED, words_a_minute, 0)
        espeak.espeak_SetParameter(PITCH, pitch, 0)
        # The breath of a voice is noise, which the clock would seed.
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
        said = text.encode()
        if espeak.espeak_Synth(said, len(said) + 1, 0, CHARACTERS, 0, UTF8, None, None):
            sys.exit(f"it could not say {text!r} with the voice {voice}")
        with wave.open(wav, "wb") as stream:
            stream.setparams((1, 2, rate, 0, "NONE", None))
            stream.writeframes(b"".join(audio))
        print(json.dumps(phonemes), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
