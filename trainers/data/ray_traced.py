"""Ray-Traced: 455 pictures of things with 155 textures, and the texture of every pixel.

The pictures, 160 by 120 pixels, are made by POV-Ray 3.7 (AGPL-3) of the Debian package povray; the
stones, granites and woods are those that come with it, and a few patterns are ours. Boxes, spheres,
cylinders and cones lie about on a floor before a wall, in the light of a lamp; each has a texture,
of a size of its own, and so have floor and wall. A second picture, of the same things without light
or shade, tells the texture of each pixel. 250 pictures are for training, 55 for validation and 150
for test, as many as the paper has.

This is in the manner of Air Freight (McCarter and Storkey, 2007), on which the paper reports, and
is not it: there all pictures are of one scene, so that those of the test resemble those of
training; here each is another. Error rates cannot be compared.
"""

import io
import os
import tempfile

import numpy as np
from PIL import Image

from . import _packages, _store
from .tts_phones import SOUND

POVRAY = "povray", "povray-includes"
# What it needs to read and write pictures, and to show them, which it does not do here.
LIBRARIES = (
    *("libboost-thread1.74.0", "libimath-3-1-29", "libjpeg62-turbo", "libopenexr-3-1-30"),
    *("libsdl1.2debian", "libtiff6", "libpng16-16", "libwebp7", "liblerc4", "libjbig0"),
    *("libdeflate0", "libcaca0", "libslang2", "libx11-6", "libxext6"),
)
VERSION = "1:3.7.0.10-2+b2"
EDITION = 1
SEED = 1
COUNTS = {"train": 250, "validation": 55, "test": 150}
HEIGHT, WIDTH = 120, 160
MARBLES = (
    *("Jade", "Red_Marble", "White_Marble", "Blood_Marble", "Blue_Agate", "Sapphire_Agate"),
    *("Brown_Agate", "Pink_Granite", "Cherry_Wood", "Pine_Wood", "Dark_Wood", "Tan_Wood"),
    *("Tom_Wood", "DMFWood1", "DMFWood4", "DMFWood5", "DMFLightOak", "DMFDarkOak"),
)
PATTERNS = "checker", "brick", "bozo", "leopard", "crackle", "wrinkles", "onion"
PAIRS = (
    *(("0.8, 0.1, 0.1", "0.9, 0.9, 0.8"), ("0.1, 0.2, 0.7", "0.9, 0.7, 0.1")),
    *(("0.1, 0.5, 0.2", "0.05, 0.1, 0.1"), ("0.6, 0.2, 0.6", "0.3, 0.8, 0.8")),
)


def _pattern(kind, one, two):
    if kind in ("checker", "brick"):
        scale = 0.05 if kind == "brick" else 0.3
        return f"pigment {{ {kind} rgb <{one}>, rgb <{two}> scale {scale} }}"
    colours = f"color_map {{ [0 rgb <{one}>] [1 rgb <{two}>] }}"
    return f"pigment {{ {kind} {colours} scale 0.25 }}"


TEXTURES = (
    *(f"T_Stone{number}" for number in range(1, 45)),
    *(f"T_Wood{number}" for number in range(1, 36)),
    *(f"T_Grnt{number}" for number in range(30)),
    *(f"pigment {{ {name} }}" for name in MARBLES),
    *(_pattern(kind, *pair) for kind in PATTERNS for pair in PAIRS),
)
"""What POV-Ray calls the textures, in the order of their numbers."""

BEGIN = """#version 3.7;
#include "colors.inc"
#include "stones.inc"
#include "woods.inc"
#include "textures.inc"
global_settings {{ assumed_gamma 1 }}
camera {{ location <0, {eye:.3f}, -9> look_at <0, 1.2, 0> angle 50 }}
light_source {{ <{lamp:.3f}, 9, -8> rgb 0.9 }}
light_source {{ <0, 4, -20> rgb 0.3 shadowless }}
"""
SKIN = """#if (Labels)
  texture {{ pigment {{ rgb <{red}/255, 0, 0> }} finish {{ emission 1 ambient 0 diffuse 0 }} }}
#else
  texture {{ {look} scale {scale:.3f} rotate <{turn[0]:.0f}, {turn[1]:.0f}, {turn[2]:.0f}> }}
#end"""
SOLIDS = (
    "box {{ <-{a:.2f}, 0, -{b:.2f}>, <{a:.2f}, {c:.2f}, {b:.2f}> {skin} {place} }}",
    "sphere {{ <0, {a:.2f}, 0>, {a:.2f} {skin} {place} }}",
    "cylinder {{ <0, 0, 0>, <0, {c:.2f}, 0>, {a:.2f} {skin} {place} }}",
    "cone {{ <0, 0, 0>, {a:.2f}, <0, {c:.2f}, 0>, {b:.2f} {skin} {place} }}",
)


def path(cache_dir=None):
    """The file, there or not."""
    return os.path.join(_store.cache(cache_dir), "ray_traced.npz")


def available(cache_dir=None):
    """Whether the whole file is there, and of this edition."""
    return _store.edition(path(cache_dir)) == EDITION


def fetch(cache_dir=None):
    """Makes the pictures where they are not there yet, and returns their path.

    It downloads packages (5 MB), draws for a quarter of an hour, and stores 20 MB. The same version
    of POV-Ray draws the same.

    Raises `RuntimeError` where apt-get is missing or fails, or POV-Ray does, with their words.
    """
    if not available(cache_dir):
        with tempfile.TemporaryDirectory() as folder:
            root, versions = _packages.debian((*POVRAY, *LIBRARIES, *SOUND), folder)
            _packages.warn_of_another(versions["povray"], VERSION, "ray_traced")
            found = [drawn(root, scene(i), folder) for i in range(sum(COUNTS.values()))]
        _store.write(pack(*map(np.stack, zip(*found))), path(cache_dir))
    return path(cache_dir)


def scene(number):
    """What POV-Ray is to draw, by the number of a picture."""
    rng = np.random.default_rng([SEED, number])

    def skin():
        texture = rng.integers(len(TEXTURES))
        values = {"look": TEXTURES[texture], "turn": rng.uniform(0, 360, 3)}
        return SKIN.format(red=texture + 1, scale=rng.uniform(0.6, 1.6), **values)

    parts = [BEGIN.format(eye=rng.uniform(2, 4.5), lamp=rng.uniform(-8, 8))]
    parts.append(f"plane {{ y, 0 {skin()} }}")
    parts.append(f"plane {{ -z, -{rng.uniform(2.5, 6):.2f} {skin()} }}")
    for _ in range(rng.integers(6, 13)):
        right, back, turn = rng.uniform(-4, 4), rng.uniform(-3.5, 2), rng.uniform(0, 90)
        place = f"rotate <0, {turn:.0f}, 0> translate <{right:.2f}, 0, {back:.2f}>"
        a, b, c = rng.uniform((0.4, 0.3, 0.6), (1.0, 0.9, 3.0))
        solid = SOLIDS[rng.integers(len(SOLIDS))]
        parts.append(solid.format(a=a, b=b, c=c, skin=skin(), place=place))
    return "\n".join(parts)


def drawn(root, scene, folder):
    """A picture `(120, 160, 3)` uint8, and the texture of each pixel, `(120, 160)` uint8.

    Args:
        root: where the packages are unpacked.
        scene: as the function of this name gives it.
        folder: to work in.
    """
    file, output = (os.path.join(folder, name) for name in ("scene.pov", "scene.png"))
    with open(file, "w") as text:
        text.write(scene)
    program = os.path.join(root, "usr", "bin", "povray")
    includes = os.path.join(root, "usr", "share", "povray-3.7", "include")
    common = [program, f"+I{file}", f"+O{output}", f"+W{WIDTH}", f"+H{HEIGHT}", f"+L{includes}"]
    found = []
    for labels, options in ((0, ["+A0.3"]), (1, ["-A", "File_Gamma=1"])):
        command = [*common, *options, "-D", "-GA", f"Declare=Labels={labels}"]
        _packages.run(command, "POV-Ray could not draw", folder, _packages.libraries(root))
        with Image.open(output) as image:
            found.append(np.asarray(image.convert("RGB")))
    picture, labels = found
    return picture, labels[..., 0] - np.uint8(1)


def pack(pictures, labels):
    """The bytes of an `.npz` file; the same pictures give the same bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, edition=np.array(EDITION), pictures=pictures, labels=labels)
    return stream.getvalue()


def load(path):
    """The pictures in the file `path`, or in `ray_traced.npz` in a directory.

    Returns:
        Dict: split -> (pictures, `(count, 120, 160, 3)` uint8; textures, `(count, 120, 160)` uint8,
        which of `TEXTURES` each pixel has).

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, something else, or of another edition.
    """
    with _store.made(path, "ray_traced", EDITION, "pictures") as file:
        pictures, labels = file["pictures"], file["labels"]
        fit = labels.ndim == 3 and pictures.shape == (*labels.shape, 3)
        if not fit or labels.max(initial=0) >= len(TEXTURES):
            raise ValueError(f"{pictures.shape} pixels and {labels.shape} textures")
    ends = np.cumsum([len(pictures) * n // sum(COUNTS.values()) for n in COUNTS.values()])[:-1]
    parts = zip(np.split(pictures, ends), np.split(labels, ends))
    return dict(zip(COUNTS, parts))


def sample(folder):
    """Writes a file of the same form for tests: stripes whose width tells their texture."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(TEXTURES), (18, 1, 2)).astype("uint8")
    labels = np.broadcast_to(np.repeat(labels, 10, axis=2), (18, 24, 20))
    stripes = np.arange(24)[:, None] // (1 + labels % 7) % 2
    pictures = np.repeat((255 * stripes).astype("uint8")[..., None], 3, axis=-1)
    _store.write(pack(pictures, labels), os.path.join(folder, "ray_traced.npz"))
