"""TTS-Phones: 2,400 short English sentences spoken by a program, with the times of their phonemes.

The program is flite (Black and Lenzo, 2001), of Debian, which knows what it says when. It is free
for any use; so are its voices and what they say. The sentences come from the grammar
below, of some 500 words.

A speaker is a voice at one pitch and one speed. `train` has three voices at nine each: an American
man (kal16), a Scottish man (awb) and an American woman (slt). `validation` has the same voices at a
pitch and a speed between those. `test` has another American man (rms), never heard before, as the
speakers of TIMIT's test are new ones of a known kind: his sex and his accent occur in training.
flite changes his speed, and not his pitch. No sentence comes twice in the whole set, while all
words may come everywhere.

This is far easier than TIMIT, so that errors cannot be compared: every voice says a phoneme in much
the same way each time, there is no noise, and what is said is exactly what the dictionary has.
"""

import concurrent.futures
import functools
import glob
import itertools
import os
import random
import re
import sys
import tempfile
import wave

import numpy as np

from . import _packages, _speech, _store

PACKAGES = "flite", "libflite1", "libasound2"
VERSION = "2.2-5"
RATE = 16_000
SEED = 1
COUNTS = {"train": 2000, "validation": 200, "test": 200}
PITCHES = {
    "train": {"kal16": (90, 110, 130), "awb": (110, 130, 155), "slt": (150, 170, 195)},
    "validation": {"kal16": (100,), "awb": (120,), "slt": (160,)},
    "test": {"rms": (105,)},
}
STRETCHES = {"train": (0.85, 1.0, 1.2), "validation": (1.1,), "test": (0.85, 1.0, 1.2)}
PROCESSES = 2

# The symbols of CMUdict without stress, and `ax`, the vowel of "the"; `pau` is silence.
PHONEMES = (
    *("aa", "ae", "ah", "ao", "aw", "ax", "ay", "b", "ch", "d", "dh", "eh", "er", "ey", "f", "g"),
    *("hh", "ih", "iy", "jh", "k", "l", "m", "n", "ng", "ow", "oy", "p", "pau", "r", "s", "sh"),
    *("t", "th", "uh", "uw", "v", "w", "y", "z", "zh"),
)

WORDS = 4, 10
GRAMMAR = {
    "SENTENCE": """SOMEBODY DID OBJECT|SOMEBODY DID OBJECT WHERE|SOMEBODY WENT WHERE|
        SOMEBODY WENT WHERE WHEN|WHEN SOMEBODY DID OBJECT|did SOMEBODY DO OBJECT|
        SOMEBODY will DO OBJECT WHEN|SOMEBODY never DID OBJECT|please DO OBJECT WHERE|
        OBJECT was ADJECTIVE and ADJECTIVE|SOMEBODY WENT HOW WHERE|SOMEBODY HOW DID OBJECT|
        why did SOMEBODY DO OBJECT|NUMBER THINGS were WHERE|SOMEBODY DID NUMBER ADJECTIVE THINGS|
        SOMEBODY and SOMEBODY WENT WHERE|we could DO OBJECT or DO OBJECT|nobody DID OBJECT WHEN|
        SOMEBODY can only DO ADJECTIVE THINGS""",
    "SOMEBODY": "NAME|NAME|the PERSON|the ADJECTIVE PERSON|WHOSE PERSON|she|he|they|we|you",
    "OBJECT": """the THING|the ADJECTIVE THING|WHOSE THING|WHOSE ADJECTIVE THING|THINGS|
        NUMBER THINGS""",
    "WHERE": "PREPOSITION the PLACE|PREPOSITION WHOSE PLACE|PREPOSITION the ADJECTIVE PLACE",
    "WHOSE": "my|our|his|her|their|your|this|that|every|another",
    "NAME": """george|joyce|ruth|arthur|judy|charlie|hugh|ethel|roy|paul|sheila|victor|zoe|beth|
        frank|yolanda|oscar|audrey|keith|maria|walter|naomi|thomas|vera""",
    "PERSON": """farmer|teacher|doctor|sailor|judge|nurse|baker|cousin|mother|father|brother|sister|
        neighbor|singer|captain|lawyer|child|boy|girl|woman|uncle|aunt|king|queen|thief|author|
        painter|soldier|tailor|student|driver|engineer|butcher|friend|stranger|giant|youth""",
    "THING": """apple|book|bottle|box|bridge|button|cake|camera|chair|cheese|clock|cloth|coin|cup|
        dish|dog|engine|feather|fish|flag|flute|fork|garage|glass|goat|guitar|hammer|hat|horse|
        jacket|jug|key|kite|knife|ladder|lamp|letter|machine|map|mirror|mouse|needle|onion|orange|
        oyster|paper|pencil|piano|picture|pillow|plate|pocket|puzzle|radio|ring|rope|shirt|shoe|
        spoon|sugar|table|television|thread|ticket|tooth|toy|treasure|umbrella|vase|village|violin|
        vision|wagon|watch|wheel|whistle|window|yarn|zipper|leather|measure|decision|noise|voice|
        oil|fuel""",
    "THINGS": """apples|books|bottles|boxes|bridges|buttons|cakes|chairs|clocks|cups|dishes|dogs|
        eggs|feathers|flags|forks|gifts|goats|hammers|hats|horses|jackets|keys|kites|ladders|lamps|
        letters|maps|mirrors|needles|oranges|oysters|pencils|pictures|plates|potatoes|puzzles|rings|
        ropes|shoes|songs|spoons|stories|tickets|tools|toys|treasures|vegetables|watches|whistles|
        windows|yellow things|clothes|teeth|sheep|mice|months|voices""",
    "PLACE": """kitchen|garden|river|mountain|market|harbor|station|church|school|library|office|
        bathroom|forest|beach|valley|island|road|tower|castle|museum|theater|hospital|bakery|house|
        field|cave|ocean|jungle|courtyard|cottage|north gate|south wall|football ground|cellar""",
    "ADJECTIVE": """old|young|little|large|heavy|light|quiet|loud|happy|angry|clever|foolish|rich|
        poor|cold|warm|blue|green|yellow|purple|white|brown|strange|usual|smooth|rough|thick|thin|
        clean|dusty|broken|hidden|precious|cheap|sharp|dull|sweet|bitter|bright|dark|huge|tiny|
        wooden|golden|curious|famous|joyful|thirsty|ugly|beautiful|other|favorite|genuine|royal|
        useful""",
    "DID": """bought|sold|found|lost|carried|dropped|painted|washed|stole|borrowed|measured|noticed|
        watched|loved|wanted|touched|fixed|pushed|pulled|threw|caught|brought|hid|opened|cooked|
        changed|enjoyed|forgot|chose|chased|destroyed|described|heard|held|kept|shook|took|
        gathered""",
    "DO": """buy|sell|find|lose|carry|drop|paint|wash|steal|borrow|measure|notice|watch|love|want|
        touch|fix|push|pull|throw|catch|bring|hide|open|cook|change|enjoy|forget|choose|chase|
        destroy|describe|hear|hold|keep|shake|take|gather|avoid|judge""",
    "WENT": """walked|ran|jumped|slept|waited|laughed|sang|danced|stood|sat|fell|swam|cried|shouted|
        worked|played|arrived|vanished|rested|stayed|hurried|dreamed|joined us|went|moved""",
    "HOW": """slowly|quickly|quietly|gladly|badly|carefully|suddenly|often|usually|rarely|always|
        casually|loudly|gently|cheerfully|together""",
    "WHEN": """today|yesterday|tomorrow|on thursday|on sunday|in july|in winter|last year|at noon|
        at night|before breakfast|after lunch|this evening|every morning|once a month|at four|
        by then|just now""",
    "PREPOSITION": "in|near|behind|beside|outside|inside|above|under|beyond|around|across from|by",
    "NUMBER": "two|three|four|five|six|seven|eight|nine|ten|twelve|thirty|a hundred|many|few|some",
}


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "tts_phones.npz")


def available(cache_dir=None):
    """Whether the whole file is there."""
    return _speech.whole(path(cache_dir))


def fetch(cache_dir=None):
    """Downloads flite where the file is not there yet, lets it speak, and returns the file's path.

    It downloads 13 MB, computes for about 80 seconds and stores 187 MB. The same version of flite
    says the same, to the bit; another one is used with a warning.

    Raises `RuntimeError` where apt-get is missing or fails, or flite does, with their words.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            root, versions = _packages.debian(PACKAGES, folder)
            utterances = _speak(list(_plan()), root, folder)
        _packages.warn_of_another(versions["flite"], VERSION, "TTS-Phones")
        digest = _speech.digest(utterances)
        content = _speech.pack(utterances, packages=versions, sha256=digest)
        _store.write(content, path(cache_dir))
    return path(cache_dir)


def load(path):
    """The list of all utterances (`_speech.Utterance`) in the file `path`.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged.
    """
    return _speech.load(path, "tts_phones")


def sentences(count, seed=SEED):
    """As many sentences of 4 to 10 words, all different: lower case, without punctuation."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        sentence = _expand("SENTENCE", rng)
        if WORDS[0] <= len(sentence.split()) <= WORDS[1]:
            found[sentence] = None
    return list(found)


def _expand(symbol, rng):
    """What stands for a symbol of the grammar, its own symbols expanded; a word is itself."""
    if symbol not in GRAMMAR:
        return symbol
    choices = GRAMMAR[symbol].split("|")
    # `random` is what Python promises never to change for a seed; `choice` is not.
    words = choices[int(rng.random() * len(choices))].split()
    return " ".join(_expand(word, rng) for word in words)


def _plan():
    """What is to be said: name, split, voice, pitch in hertz, stretch, text."""
    texts = iter(sentences(sum(COUNTS.values())))
    for split, count in COUNTS.items():
        voices = [(voice, hertz) for voice, all in PITCHES[split].items() for hertz in all]
        speakers = itertools.cycle(itertools.product(voices, STRETCHES[split]))
        for number, ((voice, hertz), stretch) in enumerate(itertools.islice(speakers, count)):
            yield f"{split}-{number:04}", split, voice, hertz, stretch, next(texts)


def _speak(plan, root, folder):
    libraries = [
        *glob.glob(os.path.join(root, "usr", "lib", "*")),
        os.environ.get("LD_LIBRARY_PATH"),
    ]
    environment = os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries))}
    flite = os.path.join(root, "usr", "bin", "flite")

    say = functools.partial(_utterance, flite=flite, folder=folder, environment=environment)
    found = []
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        try:
            for utterance in pool.map(say, plan):
                found.append(utterance)
                if len(found) % 100 == 0 or len(found) == len(plan):
                    print(f"\rspoken: {len(found):,} of {len(plan):,}", end="", file=sys.stderr)
        finally:
            pool.shutdown(cancel_futures=True)
            print(file=sys.stderr)
    return found


def _utterance(line, flite, folder, environment):
    name, split, voice, hertz, stretch, text = line
    file = os.path.join(folder, f"{name}.wav")
    command = [flite, "-voice", voice, "-psdur", "-t", f"{text}.", "-o", file]
    command += ["--setf", f"int_f0_target_mean={hertz}", "--setf", f"duration_stretch={stretch}"]
    problem = f"flite could not say {text!r} with the voice {voice}"
    said = _packages.run(command, problem, environment=environment)
    try:
        phonemes, ends = zip(*re.findall(r"(\S+):([\d.]+)", said))
        with wave.open(file) as stream:
            rate = stream.getframerate()
            audio = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype("int16")
        os.remove(file)
        if rate != RATE:
            # It takes a voice of 8 kHz, without a word, where it does not know one.
            raise ValueError(f"expected {RATE} samples a second, got {rate}")
        # Some voices stop in the middle of the last silence.
        phonemes, ends = _speech.fit(phonemes, np.array(ends, float), len(audio) / rate)
    except (ValueError, OSError, EOFError, wave.Error) as error:
        raise RuntimeError(f"{problem}: {error}; it printed:\n{said.strip()}") from error
    speaker = f"{voice}-{hertz}-{stretch}"
    return _speech.Utterance(name, speaker, split, rate, audio, phonemes, ends, text)


def sample(folder):
    """Writes a small file of the same form, of tones, for tests; returns its path."""
    file = os.path.join(folder, "tts_phones.npz")
    _store.write(_speech.pack(_speech.tones(RATE, PHONEMES)), file)
    return file
