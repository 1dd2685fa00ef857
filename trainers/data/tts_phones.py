"""TTS-Phones: 4,040 short English sentences spoken by programs, with the times of their phonemes.

The programs are flite (Black and Lenzo, 2001) and festival (Black, Taylor and Caley, 1996), whose
voices are made of recordings, and eSpeak NG (Duddington, 1995), which makes its voices by rules;
all three know what they say when. All are free software, and what they say is free for any use.
The sentences come from the grammar below, of some 500 words.

A speaker is a voice at one pitch and one speed. `train` has ten voices at nine each: two American
men (kal16, ked), a Scottish man (awb) and an American woman (slt) of recordings, and six of eSpeak
NG's American English. `validation` has the same voices at a pitch and a speed between those. `test`
has voices never heard before, as the speakers of TIMIT's test are new ones of a known kind: another
American man of recordings (rms), and a man and a woman of eSpeak NG. flite changes the speed of
rms, and not his pitch. No sentence comes twice in the whole set, while all words may come
everywhere.

This is far easier than TIMIT, so that errors cannot be compared: every voice says a phoneme in much
the same way each time, there is no noise, and what is said is exactly what the dictionaries have.
The programs have a dictionary each, which differ in words without stress: "was" is `w aa z` to
flite and `w ah z` to eSpeak NG.
"""

import itertools
import os
import random
import sys
import tempfile

from . import _packages, _speech, _store, _voices

FLITE = "flite", "libflite1"
FESTIVAL = "festival", "libestools2.5", "festlex-cmu", "festlex-poslex", "festvox-kdlpc16k"
# What the two need of sound and its files, although they only write: a machine may have no sound.
SOUND = (
    *("libasound2", "libaudiofile1", "libpulse0", "libasyncns0", "libdbus-1-3", "libsndfile1"),
    *("libflac12", "libogg0", "libvorbis0a", "libvorbisenc2", "libopus0", "libmpg123-0"),
    *("libmp3lame0", "libx11-xcb1", "libxcb1", "libxau6", "libxdmcp6", "libbsd0", "libmd0"),
    *("libsystemd0", "libapparmor1", "libcap2", "libncurses6", "libtinfo6"),
)
PACKAGES = *FLITE, *FESTIVAL, *SOUND
VERSIONS = {"flite": "2.2-5", "festival": "1:2.5.0-9", "festvox-kdlpc16k": "1.4.0-6.1"}
ESPEAK = "espeakng-loader==0.2.4"
RATE = 16_000
EDITION = 1
SEED = 1
COUNTS = {"train": 3600, "validation": 200, "test": 240}
# Pairs of program and voice, with their pitches in the program's unit.
VOICES = {
    "train": {
        ("flite", "kal16"): (90, 110, 130),
        ("flite", "awb"): (110, 130, 155),
        ("flite", "slt"): (150, 170, 195),
        ("festival", "ked"): (90, 105, 125),
        **{("espeak", f"en-us+{voice}"): (30, 50, 70) for voice in ("m1", "m4", "m7")},
        **{("espeak", f"en-us+{voice}"): (30, 50, 70) for voice in ("f1", "f3", "klatt2")},
    },
    "validation": {
        ("flite", "kal16"): (100,),
        ("flite", "awb"): (120,),
        ("flite", "slt"): (160,),
        ("festival", "ked"): (98,),
        **{("espeak", f"en-us+{voice}"): (40,) for voice in ("m1", "m4", "m7")},
        **{("espeak", f"en-us+{voice}"): (40,) for voice in ("f1", "f3", "klatt2")},
    },
    "test": {
        ("flite", "rms"): (105,),
        ("espeak", "en-us+m3"): (50,),
        ("espeak", "en-us+f4"): (50,),
    },
}
STRETCHES = {"train": (0.85, 1.0, 1.2), "validation": (1.1,), "test": (0.85, 1.0, 1.2)}

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
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Downloads the programs where the file is not there yet, lets them speak, returns its path.

    It downloads 40 MB, computes for a minute or two and stores 330 MB; the programs go away again
    afterwards. The same versions of them say the same, to the bit; others are used with a warning.

    Raises `RuntimeError` where apt-get is missing or fails, or pip or one of the programs does,
    with their words.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            root, versions = _packages.debian(PACKAGES, folder)
            utterances = _speak(list(_plan()), root, _packages.pip(ESPEAK, folder), folder)
        for name, version in VERSIONS.items():
            _packages.warn_of_another(versions[name], version, "TTS-Phones")
        name, _, version = ESPEAK.partition("==")
        packages, digest = versions | {name: version}, _speech.digest(utterances)
        content = _speech.pack(utterances, EDITION, packages=packages, sha256=digest)
        _store.write(content, path(cache_dir))
    return path(cache_dir)


def load(path):
    """The list of all utterances (`_speech.Utterance`) in the file `path`.

    Raises `FileNotFoundError` where there is none, and `ValueError` where it is damaged.
    """
    return _speech.load(path, "tts_phones", EDITION)


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
    """All lines that are to be said, `_voices.Line`."""
    texts = iter(sentences(sum(COUNTS.values())))
    for split, count in COUNTS.items():
        voices = [(*voice, pitch) for voice, all in VOICES[split].items() for pitch in all]
        speakers = itertools.cycle(itertools.product(voices, STRETCHES[split]))
        for number, (voice, stretch) in enumerate(itertools.islice(speakers, count)):
            yield _voices.Line(f"{split}-{number:04}", split, *voice, stretch, next(texts))


def _speak(plan, root, espeak, folder):
    """The `_speech.Utterance` of each line."""
    programs = {
        "espeak": (_voices.espeak, espeak),
        "festival": (_voices.festival, root),
        "flite": (_voices.flite, root),
    }
    said = {}
    try:
        for program, (speak, place) in programs.items():
            lines = [line for line in plan if line.program == program]
            for line, audio in zip(lines, speak(lines, place, folder, RATE), strict=True):
                said[line] = audio
                if len(said) % 100 == 0 or len(said) == len(plan):
                    print(f"\rspoken: {len(said):,} of {len(plan):,}", end="", file=sys.stderr)
    finally:
        print(file=sys.stderr)
    return [
        _speech.Utterance(
            *(line.name, line.speaker, line.split, RATE),
            *(said[line].audio, said[line].phonemes, said[line].ends, line.text),
        )
        for line in plan
    ]


def sample(folder):
    """Writes a small file of the same form, of tones, for tests; returns its path."""
    file = os.path.join(folder, "tts_phones.npz")
    _store.write(_speech.pack(_speech.tones(RATE, PHONEMES), EDITION), file)
    return file
