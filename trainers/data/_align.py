"""Finds when each phoneme of a known text is said, by forced alignment with pocketsphinx.

A program of its own, so that pocketsphinx can stand in a directory that goes away again. The file
it is given holds a JSON list of [npy file, text], each file with samples of int16, 16,000 a second.
It prints a line of JSON for each of them: a list of [phoneme, end in seconds], silence as `pau`, or
null where a word is unknown or does not fit.
"""

import json
import re
import sys

import numpy as np

RATE = 16_000
SPOKEN = {
    **{"0": "zero", "1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six"},
    **{"7": "seven", "8": "eight", "9": "nine", "#": "pound", "*": "star", "&": "and"},
}


def words(text, known):
    """The words of a text, lower case, or None where there are none, or one that is not known.

    What stands in brackets is not said. `known(word)` tells whether a dictionary has a word.
    """
    found = []
    for token in re.sub(r"\[[^]]*\]|\([^)]*\)|\.\.\.", " ", text.lower()).split():
        bare = re.sub(r"[^\w'.#*&%-]", "", token)
        spellings = bare, bare.strip(".-"), bare.strip(".-'")
        whole = [s for s in (SPOKEN.get(bare.strip(".-")), *spellings) if s and known(s)]
        parts = whole[:1] or bare.strip(".-'").split("-")
        if not all(part and known(part) for part in parts):
            if spellings[-1]:
                return None
            continue
        found += parts
    return found or None


def align(decoder, samples, said):
    """Pairs of phoneme and end in seconds, or None."""
    try:
        decoder.set_align_text(" ".join(said))
        _decode(decoder, samples)
        # The first pass finds the words, the second their phonemes.
        decoder.set_alignment()
        _decode(decoder, samples)
        found = decoder.get_alignment()
    except RuntimeError:
        return None
    phones = [phone for word in found for phone in word] if found else []
    pairs = [[_name(p.name), (p.start + p.duration) / 100] for p in phones]
    # It fits a very short word as nothing but silence, and finds no fault with that.
    return pairs if any(name != "pau" for name, _ in pairs) else None


def _decode(decoder, samples):
    decoder.start_utt()
    try:
        decoder.process_raw(samples.tobytes(), full_utt=True)
    finally:
        decoder.end_utt()


def _name(phone):
    """Breath and noise count as silence."""
    return "pau" if phone == "SIL" or phone.startswith("+") else phone.lower()


def main(tasks):
    from pocketsphinx import Decoder

    decoder = Decoder(lm=None, samprate=RATE, loglevel="FATAL")
    with open(tasks, encoding="utf-8") as stream:
        pairs = json.load(stream)
    for file, text in pairs:
        said = words(text, lambda word: decoder.lookup_word(word) is not None)
        print(json.dumps(said and align(decoder, np.load(file), said)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
