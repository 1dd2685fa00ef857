"""TIMIT's 61 phones, and the 48 and 39 classes into which they are folded (Lee and Hon, 1989)."""

DELETED = "q"
ALIKE = (
    "aa ae ah aw ay b ch d dh dx eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w "
    "y z"
)
# Each phone, its class of 48, its class of 39.
FOLDED = {phone: (phone, phone) for phone in ALIKE.split()} | {
    "ao": ("ao", "aa"),
    "ax": ("ax", "ah"),
    "ax-h": ("ax", "ah"),
    "axr": ("er", "er"),
    "hv": ("hh", "hh"),
    "ix": ("ix", "ih"),
    "el": ("el", "l"),
    "em": ("m", "m"),
    "en": ("en", "n"),
    "nx": ("n", "n"),
    "eng": ("ng", "ng"),
    "ux": ("uw", "uw"),
    "zh": ("zh", "sh"),
    "bcl": ("vcl", "sil"),
    "dcl": ("vcl", "sil"),
    "gcl": ("vcl", "sil"),
    "pcl": ("cl", "sil"),
    "tcl": ("cl", "sil"),
    "kcl": ("cl", "sil"),
    "epi": ("epi", "sil"),
    "pau": ("sil", "sil"),
    "h#": ("sil", "sil"),
}
_TO_48 = {phone: classes[0] for phone, classes in FOLDED.items()}
_TO_39 = {phone: classes[1] for phone, classes in FOLDED.items()}

PHONES = {
    61: tuple(sorted([*FOLDED, DELETED])),
    48: tuple(sorted(set(_TO_48.values()))),
    39: tuple(sorted(set(_TO_39.values()))),
}
# Classes are folded on, and stay where they are in their own set.
_TABLES = {
    61: {phone: phone for phone in PHONES[61]},
    48: {phone: phone for phone in PHONES[48]} | _TO_48 | {DELETED: None},
    39: {_TO_48[phone]: _TO_39[phone] for phone in _TO_48} | _TO_39 | {DELETED: None},
}


def fold(phonemes, to=39):
    """The classes of phones, in order; the glottal stop q is left out of 48 and of 39 classes.

    Neighbours that become alike stay two, as is usual in scoring.

    Args:
        phonemes: iterable of str, of the 61 phones; for fewer classes of the 48 or 39 as well.
        to: how many classes, 61, 48 or 39.

    Returns:
        Tuple of str.

    Raises:
        ValueError: there is no such set, or a phone is not in it.

    Reference:
        Lee and Hon, "Speaker-independent phone recognition using hidden Markov models", 1989.
    """
    folded = (_fold(phone, to) for phone in phonemes)
    return tuple(phone for phone in folded if phone is not None)


def class_map(labels, to=39):
    """For each label the number of its class in `PHONES[to]`, -1 for q and for None.

    What `EditErrorRate` calls `fold`. Raises as `fold` does.
    """
    numbers = {phone: number for number, phone in enumerate(PHONES[to])} if to in PHONES else {}
    folded = [None if label is None else _fold(label, to) for label in labels]
    return tuple(-1 if phone is None else numbers[phone] for phone in folded)


def _fold(phone, to):
    if to not in _TABLES:
        raise ValueError(f"there are sets of {', '.join(map(str, PHONES))} phones; got {to!r}")
    if phone not in _TABLES[to]:
        raise ValueError(f"expected phones of TIMIT, {' '.join(PHONES[61])}; got {phone!r}")
    return _TABLES[to][phone]
