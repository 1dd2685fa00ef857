"""Photo-Patches: 9,000 pieces of 14 photographs, 32 x 32 pixels in colour.

The photographs ship in the Debian packages lomiri-wallpapers-16.04 and lomiri-wallpapers-20.04; the
names of the files say who took them. They are under CC BY 4.0 (Berasategi, Freespace, Mede), CC
BY-SA 4.0 (Bolly, Klootwijk, Nerlich), CC BY-SA 3.0 (Baubkus) and CC0 (Engelhardt), and so are the
pieces: whoever passes the file on names the authors and keeps the licences. The wallpapers that are
no photographs are left out.

A photograph is made smaller, to 1,280 pixels on its longer side, and cut up; pieces in which there
is next to nothing to see are left out. `train`, `validation` and `test` have photographs of their
own. Densities of these pieces are those of no other data set.
"""

import io
import os
import tempfile

import numpy as np
from PIL import Image

from . import _packages, _store

PACKAGES = "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04"
FOLDER = "usr/share/backgrounds"
PHOTOGRAPHS = {
    "train": (
        *("Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "Picture_0B_by_freespace"),
        *("Picture_1A_by_freespace", "aitzgorri_by_Aitzol_Berasategi", "free_by_Peter_Nerlich"),
        *("friends_by_Aitzol_Berasategi", "greentock_by_Peter_Nerlich"),
        *("life_by_Aitzol_Berasategi", "seeding_by_Clements_Engelhardt"),
    ),
    "validation": ("Kleiber_by_Lukas_Baubkus", "sunset_by_Aitzol_Berasategi"),
    "test": ("Wine_by_Jakkub_Mede", "picosdeeuropa_by_Aitzol_Berasategi"),
}
SIZE = 18_537_491
SHA256 = "c3b6e5ad41992175bd29111e83fb5715882d807923ed37ff85c886cbd6c7f260"
EDITION = 1
SEED = 1
LONGER, SIDE = 1280, 32
FLAT = 8.0
"""What a colour of a piece that shows something deviates by, 0 to 255."""


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "photo_patches.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Cuts the photographs up where that has not been done yet, and returns the pieces' path.

    It downloads 27 MB, takes some seconds, and stores 27 MB. The same version of Pillow cuts the
    same.

    Raises `RuntimeError` where apt-get is missing or fails, with its words, and `ValueError` where
    the photographs are others.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            root, _ = _packages.debian(PACKAGES, folder)
            contents = {split: _read(root, names) for split, names in PHOTOGRAPHS.items()}
        whole = b"".join(content for some in contents.values() for content in some)
        _store.check(whole, SIZE, SHA256, "the set of photographs")
        pieces = {split: cut(some, SEED) for split, some in contents.items()}
        _store.write(pack(pieces), path(cache_dir))
    return path(cache_dir)


def _read(root, names):
    contents = []
    for name in names:
        with open(os.path.join(root, FOLDER, f"{name}.jpg"), "rb") as file:
            contents.append(file.read())
    return contents


def cut(contents, seed):
    """Pieces `(count, 32, 32, 3)` uint8 of photographs, in an order of chance.

    `contents` are the bytes of their files.
    """
    found = []
    for content in contents:
        with Image.open(io.BytesIO(content)) as image:
            image = image.convert("RGB")
        scale = LONGER / max(image.size)
        size = [round(scale * side) for side in image.size]
        small = image.resize(size, Image.Resampling.BOX)
        down, right = small.height // SIDE, small.width // SIDE
        pixels = np.asarray(small)[: down * SIDE, : right * SIDE]
        pieces = pixels.reshape(down, SIDE, right, SIDE, 3).swapaxes(1, 2)
        pieces = pieces.reshape(-1, SIDE, SIDE, 3)
        found.append(pieces[pieces.std(axis=(1, 2)).mean(axis=-1) > FLAT])
    return np.random.default_rng(seed).permutation(np.concatenate(found))


def pack(pieces):
    """The bytes of an `.npz` file of pieces by their split; the same give the same bytes."""
    stream = io.BytesIO()
    np.savez(stream, edition=np.array(EDITION), **pieces)
    return stream.getvalue()


def load(path):
    """The pieces in the file `path`, or in `photo_patches.npz` in a directory.

    Returns:
        Dict: split -> `(count, 32, 32, 3)` uint8.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, something else, or of another edition.
    """
    with _store.made(path, "photo_patches", EDITION, "pieces of photographs") as file:
        found = {split: file[split] for split in PHOTOGRAPHS}
        for split, pieces in found.items():
            if pieces.shape[1:] != (SIDE, SIDE, 3) or pieces.dtype != np.uint8:
                raise ValueError(f"{split} is {pieces.shape} of {pieces.dtype}")
    return found


def sample(folder):
    """Writes a file of the same form, with a few pieces of chance, for tests."""
    rng = np.random.default_rng(0)
    shapes = {split: (10 * len(names), SIDE, SIDE, 3) for split, names in PHOTOGRAPHS.items()}
    pieces = {split: rng.integers(0, 256, shape, "uint8") for split, shape in shapes.items()}
    _store.write(pack(pieces), os.path.join(folder, "photo_patches.npz"))
