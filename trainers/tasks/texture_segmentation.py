"""The texture of every pixel of a picture (Graves et al., 2007, section 4.1)."""

import dataclasses
import functools
import os

import numpy as np

from .._describe import after
from .._difficulty import levels
from .._evaluate import outputs_of
from .._metrics import TargetError
from .._task import Listed
from ..data import ray_traced

SHOWN = 8  # pictures in a figure


@functools.cache
def _load(root):
    return ray_traced.load(root or ray_traced.path())


@dataclasses.dataclass(frozen=True)
class TextureSegmentation(Listed):
    """Tell for every pixel of a picture which of 155 textures is to be seen there.

    The pictures are those of `ray_traced`, which `ponderzoo data fetch` makes; `root` names another
    file of its form, or a directory with one. Rows of training are pieces of `piece` by `piece`
    pixels, cut out somewhere, or whole pictures where it is 0 or they are smaller; rows of
    validation and test are whole pictures.

    Inputs: `image`, `(batch, height, width, 3)` float32, red, green and blue from 0 to 1. Targets:
    `label`, `(batch, height, width)` int32, the number of the texture. The model output `label` is
    logits, `(batch, height, width, 155)`.

    Raises:
        FileNotFoundError: the pictures are not there.
        ValueError: the file is damaged, or of another edition; or a piece is smaller than 0.
    """

    root: str = ""
    piece: int = 48
    least = {"piece": 0}
    evaluation_batch = 5
    captions = {
        "labels": "Pictures of the test split; below each the textures of its pixels, a colour for "
        "each, and below these what was answered.",
    }
    called = {"pixel_error": "wrong pixels"}

    @property
    def corpus(self):
        """What the pictures may be called."""
        return os.path.basename(os.path.abspath(self.root)) if self.root else "Ray-Traced"

    @property
    def classes(self):
        return len(ray_traced.TEXTURES)

    @property
    def input_spec(self):
        return {"image": ((None, None, 3), "float32")}

    @property
    def target_spec(self):
        return {"label": ((None, None), "int32")}

    def metrics(self):
        return {"label": [TargetError("pixel_error")]}

    def examples(self, split="train"):
        """How many pictures a split has."""
        return len(_load(self.root)[split][0])

    def rows(self, chosen, split="train"):
        """The pictures of a split by their numbers, `(batch,)`."""
        pictures, labels = _load(self.root)[split]
        image = pictures[chosen].astype("float32") / 255
        return {"image": image}, {"label": labels[chosen].astype("int32")}

    def batch(self, rng, size, difficulty=None, split="train"):
        levels(self, difficulty)
        chosen = rng.integers(0, self.examples(split), size)
        inputs, targets = self.rows(chosen, split)
        if split != "train" or not self.piece:
            return inputs, targets
        image, label = inputs["image"], targets["label"]
        height, width = (min(self.piece, side) for side in label.shape[1:])
        corners = zip(
            rng.integers(0, label.shape[1] - height + 1, size),
            rng.integers(0, label.shape[2] - width + 1, size),
        )
        parts = [np.s_[row, y : y + height, x : x + width] for row, (y, x) in enumerate(corners)]
        return {"image": np.stack([image[part] for part in parts])}, {
            "label": np.stack([label[part] for part in parts])
        }

    def describe(self, inputs, targets, outputs):
        """`24 x 20 pixels of 3 textures; 2 answered; 81.3 % of the pixels right`."""
        lines = []
        for row, logits in enumerate(outputs["label"]):
            answer, told, right = np.argmax(logits, axis=-1), "", ""
            if targets:
                label = targets["label"][row]
                told = f" of {len(np.unique(label))} textures"
                right = f"; {np.mean(answer == label):.1%} of the pixels right"
            size = " x ".join(map(str, answer.shape))
            count = len(np.unique(answer))
            lines.append(f"{size} pixels{told}; {count} answered{right}{after(outputs, row)}")
        return lines

    def figures(self, model):
        """Matplotlib figures by name: `labels`."""
        from ..figures.images import sheet

        inputs, targets = self.rows(np.arange(min(SHOWN, self.examples("test"))), "test")
        found = [outputs_of(model, {"image": x[None]})["label"][0] for x in inputs["image"]]
        colours = np.random.default_rng(0).random((self.classes, 3))
        answers = np.stack([x.argmax(axis=-1) for x in found])
        kinds = [inputs["image"], colours[targets["label"]], colours[answers]]
        return {"labels": sheet(kinds, columns=4, inches=2.0)}

    def inputs_without_data(self, rng, size):
        """Pictures of chance, which need no files."""
        return {"image": rng.random((size, 12, 16, 3), "float32")}
