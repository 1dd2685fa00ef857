"""What tasks on images of digits share: which of them are in which split."""

import functools

import numpy as np

from ..data import dataset

VALIDATION = 12  # the last twelfth of MNIST's images of training
SEED = 1607  # of the fixed binarisation
SETS = "mnist", "fashion_mnist", "binarized_mnist"


def part_of(files, split):
    """Images and labels of a split, of what `mnist.load` gives."""
    if split == "test":
        return files["t10k"]
    images, labels = files["train"]
    last = len(images) - len(images) // VALIDATION
    part = slice(last) if split == "train" else slice(last, None)
    return images[part], labels[part]


@functools.cache
def _load(data, root):
    module = dataset(data)
    return module.load(root or module.path())


def chances(data, root, split):
    """The chance of each pixel to be 1, times 255, `(count, height, width)` uint8."""
    files = _load(data, root)
    return part_of(files, split)[0] if "t10k" in files else files[split] * np.uint8(255)


@functools.cache
def binarised(data, root, split):
    """The images of a split, binarised once and for all, `(count, height, width)` bool.

    Each pixel is 1 with the chance that its grey tells, by numbers of a seed that never changes.
    """
    return drawn(chances(data, root, split), np.random.default_rng([SEED, len(split)]))


def drawn(grey, rng):
    """Pixels that are 1 with the chance that their grey tells, 0 to 255, bool."""
    return rng.random(grey.shape, "float32") * 255 < grey
