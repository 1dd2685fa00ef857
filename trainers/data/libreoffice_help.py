"""LibreOffice's help, German and English: 35,000 pairs of paragraphs and headings.

The pages, MPL-2.0, ship in the Debian packages libreoffice-help-en-us and libreoffice-help-de; the
paragraphs of a page have the same ids in both. What they hold differs a little between versions.
"""

import glob
import html
import io
import os
import re
import tempfile

import numpy as np

from . import _packages, _store

LANGUAGES = {"libreoffice-help-de": "de", "libreoffice-help-en-us": "en-US"}
PAGES = "usr/share/libreoffice/help/{}/text"
FILE = "libreoffice-help.tsv"
FEWEST = 20_000  # Fewer are a sign that the pages have another form.

_PARAGRAPH = re.compile(r'<(p|h\d)\s[^>]*?\bid="([^"]+)"[^>]*>(.*?)</\1>', re.DOTALL)
_BY_SYSTEM = 'hidden="true"'


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), FILE)


def available(cache_dir=None):
    """Whether the file is there."""
    return os.path.exists(path(cache_dir))


def fetch(cache_dir=None):
    """Makes the pairs where they are not there yet, from two Debian packages; returns their path.

    Raises `RuntimeError` where apt-get or dpkg is missing or fails, with its words, and
    `ValueError` where the packages hold fewer pairs than they did.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            root, _ = _packages.debian(LANGUAGES, folder)
            found = _pairs(*(os.path.join(root, PAGES.format(x)) for x in LANGUAGES.values()))
        if len(found) < FEWEST:
            raise ValueError(
                f"expected {FEWEST} pairs or more in {' and '.join(LANGUAGES)}, got {len(found)}"
            )
        _store.write(_lines(found), path(cache_dir))
    return path(cache_dir)


def _pairs(*folders):
    """Distinct pairs of paragraphs of two folders of pages, in the order of the pages."""
    found = {}
    for name in sorted(glob.glob("**/*.html", root_dir=folders[0], recursive=True)):
        files = [os.path.join(folder, name) for folder in folders]
        if all(map(os.path.exists, files)):
            source, target = map(_paragraphs, files)
            both = ((source[key], target[key]) for key in source if key in target)
            found |= dict.fromkeys(pair for pair in both if pair[0] != pair[1])
    return list(found)


def _paragraphs(file):
    """The text of the paragraphs of a page by their ids.

    Paragraphs without a letter are left out, and those that say something else on each system.
    """
    with open(file, encoding="utf-8") as stream:
        found = _PARAGRAPH.findall(stream.read())
    texts = {key: _text(content) for _, key, content in found if _BY_SYSTEM not in content}
    return {key: text for key, text in texts.items() if any(map(str.isalpha, text))}


def _text(content):
    """What a reader sees of a piece of HTML, on one line."""
    text = html.unescape(re.sub(r"<[^>]+>", "", content)).replace("\u200b", "")
    return " ".join(text.split())


def _lines(pairs):
    return "".join(f"{source}\t{target}\n" for source, target in pairs).encode()


def load(file):
    """The pairs of a file of lines `source<TAB>target`, a list of pairs of str; here from German.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has another form.
    """
    if not os.path.isfile(file):
        raise FileNotFoundError(
            f"no pairs of sentences at {file}; `ponderzoo data fetch libreoffice_help` makes them "
            "from two Debian packages (5 MB), or root= names your own file of lines "
            "source<TAB>target"
        )
    try:
        lines = list(io.TextIOWrapper(io.BytesIO(_store.text(file)), encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be text in UTF-8; {error}") from error
    pairs = [tuple(line.rstrip("\n").split("\t")) for line in lines]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2:
            raise ValueError(
                f"line {number} of {file} must be source<TAB>target; got {'<TAB>'.join(pair)!r}"
            )
    return pairs


def sample(folder):
    """Writes a file of the same form for tests: words of a made language, each with its mirror."""
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(1200):
        words = ["".join(word) for word in rng.choice([*"abcdefgh"], (1 + number % 8, 2))]
        pairs.append((" ".join(words), " ".join(word[::-1].upper() for word in words[::-1])))
    _store.write(_lines(dict.fromkeys(pairs)), os.path.join(folder, FILE))
