"""Episodes of images of a few classes, of which a memory is to make the most."""

import dataclasses

import numpy as np

from .._difficulty import levels
from .._evaluate import outputs_of, telling
from .._metrics import MeanOutput
from .._task import NATS, SPLITS
from ._images import SIZE, BinaryImages, by_class, importance_weighted

PARTS = "reconstruction", "kl_codes", "kl_addresses"  # of the nats of an image
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128)
CLASSES = (1, 2, 4, 8)
NOISE = 0.15
INK = 0.13  # share of MNIST's pixels
READINGS = 6


@dataclasses.dataclass(frozen=True)
class ImageEpisodes(BinaryImages):
    """Say how probable the images of an episode are, in nats, to a memory that has seen them.

    An episode has `episode_length` images of `episode_classes` classes that chance chooses for it,
    0 for all of them. `data`, `root` and `binarisation` say which images; see `BinaryImages`. The
    difficulty is the length.

    Inputs: `image`, `(batch, length, 28, 28)` float32, 0 (paper) or 1 (ink); and `written`,
    `(batch, length)` float32, 1 for an image that the memory gets and 0 for one that is read alone.
    There are no targets. Outputs of models, nats by image where no more is said: `nats`,
    `(batch,)`, the mean of what the images cost to the memory, minus a bound of the
    log-probability by one sample; its parts `reconstruction`, `kl_codes` and `kl_addresses`,
    `(batch, length)`: what the pixels cost, and what was to be said of the codes and of their
    places in the memory; `kl_memory`, `(batch,)`, what was to be said of the memory by image, and
    `joint_nats`, `(batch,)`, with it, a bound of the probability of the episode on its own;
    `log_weight`, `(batch, length)`, log p(x, z, y) - log q(z, y | x). `mean` and `recalled`,
    `(batch, length, 28, 28)`, are the chances of the pixels: by the sample, and by the means of
    what it was drawn of, without any chance. `sample`, likewise, are those of images that the
    memory and the row's seed alone decide.

    A model without a memory is one to which all images are new.

    `report` has what images cost to several memories, and in episodes of other numbers of classes;
    the share of wrong pixels, when images of which 15 % of the pixels were black or white by chance
    are read several times, each time from what was read before; and an importance-weighted estimate
    by `samples` of each image of so many `episodes` of the test split.
    """

    episode_classes: int = 2
    episode_length: int = 32
    samples: int = 100
    episodes: int = 32
    axis = "images an episode"
    evaluation_batch = 50
    least = {"episode_classes": 0}
    captions = {
        "memories": "What an image costs, in nats: to a memory that its episode was written to, "
        "all but this image, or another episode, and to an empty one.",
        "classes": "What an image costs, in nats, by the classes of its episode.",
        "denoising": "Wrong pixels of images in noise after so many readings.",
        "readings": "Images of an episode of the test split, below each the same in noise, and "
        "what is read after 1, 2, 3 and more readings, each from the one before.",
        "samples": "Images of an episode in a line, and below it those that its memory makes of "
        "nothing but chance.",
    }
    called = {
        NATS: "nats an image, a bound given the memory",
        "reconstruction": "of them for the pixels",
        "kl_codes": "of them for the code",
        "kl_addresses": "of them for its place in the memory",
        "kl_memory": "nats an image for the memory",
        "joint_nats": "nats an image with those for the memory",
    }

    @property
    def input_spec(self):
        return {"image": ((None, SIZE, SIZE), "float32"), "written": ((None,), "float32")}

    @property
    def difficulties(self):
        return LENGTHS

    @property
    def corpus(self):
        some = f"{self.episode_classes} classes" if self.episode_classes else "any classes"
        return f"{super().corpus}, {self.episode_length} of {some} an episode"

    def batch(self, rng, size, difficulty=None, split="train"):
        low, high, _ = levels(self, difficulty)
        length = self.episode_length
        if difficulty is not None:
            length = int(rng.choice([n for n in LENGTHS if low <= n <= high]))
        return self.inputs(self.pixels(self.chosen(rng, (size, length), split), rng, split)), {}

    def chosen(self, rng, shape, split):
        """The numbers of the images of episodes, `(batch, length)`."""
        if not self.episode_classes:
            return rng.integers(0, self.examples(split), shape)
        order, counts = by_class(self.data, self.root, split)
        if self.episode_classes > len(counts):
            raise ValueError(
                f"{self.name} takes episodes of at most {len(counts)} classes of {self.data}; got "
                f"{self.episode_classes}"
            )
        classes = rng.permuted(np.tile(np.arange(len(counts)), (shape[0], 1)), axis=1)
        classes = classes[:, : self.episode_classes]
        classes = np.take_along_axis(classes, rng.integers(0, self.episode_classes, shape), axis=1)
        firsts = np.cumsum(counts) - counts
        return order[firsts[classes] + rng.integers(0, counts[classes])]

    @staticmethod
    def inputs(image, written=None):
        """The inputs of a model for images, all of them to be written unless another is said."""
        written = np.ones(image.shape[:2]) if written is None else written
        return {"image": image, "written": np.asarray(written, "float32")}

    def metrics(self):
        names = NATS, *PARTS, "kl_memory", "joint_nats"
        return {name: [MeanOutput(name)] for name in names}

    def describe(self, inputs, targets, outputs):
        """`32 images: 86.5 nats each, 68.3 for the pixels, 4.6 for codes and 13.6 for places`."""
        lines = []
        for row, image in enumerate(inputs["image"]):
            pixels, codes, places = (float(np.mean(outputs[name][row])) for name in PARTS)
            lines.append(
                f"{len(image)} images: {float(outputs[NATS][row]):.1f} nats each, {pixels:.1f} for "
                f"the pixels, {codes:.1f} for codes and {places:.1f} for places"
            )
        return lines

    def report(self, model):
        """`memories`, `classes` where there are any, `denoising` and `importance`."""
        image = self.test_episodes(2 * self.episodes)
        half = self.episodes
        nats = importance_weighted(
            model, self.inputs(image[:half]), self.samples, self.evaluation_batch
        )
        parts = telling(model, *PARTS)
        kinds = {"classes": self.by_classes(parts)} if self.episode_classes else {}
        return {
            "memories": self.memories(parts, image),
            **kinds,
            "denoising": self.denoising(model, image),
            "importance": {
                "importance_weighted_nats": float(nats.mean()),
                "images": nats.size,
                "samples_an_image": self.samples,
            },
        }

    def test_episodes(self, count):
        """The images of the first episodes of the test split, `(count, length, 28, 28)`."""
        rng = np.random.default_rng([SIZE, SPLITS["test"]])
        return self.batch(rng, count, split="test")[0]["image"]

    def memories(self, model, image):
        """Nats an image by the memory: of its episode, of the rest of it, of another, and empty."""
        length, nothing = image.shape[1], np.zeros(image.shape[:2])
        both = np.concatenate([np.roll(image, 1, axis=0), image], axis=1)
        first = np.concatenate([nothing + 1, nothing], axis=1)
        last = nothing + (np.arange(length) < length - 1)
        costs = {
            "its_own": self.costs(model, image, None),
            "the_rest_of_its_own": self.costs(model, image, last)[:, -1],
            "another": self.costs(model, both, first)[:, length:],
            "empty": self.costs(model, image, nothing),
        }
        return {name: float(found.mean()) for name, found in costs.items()}

    def by_classes(self, model):
        """Nats an image by the classes of its episode, as many of `CLASSES` as there are."""
        most = len(by_class(self.data, self.root, "test")[1])
        found = {}
        for count in (count for count in CLASSES if count <= most):
            task = dataclasses.replace(self, episode_classes=count)
            image = task.test_episodes(2 * self.episodes)
            found[f"{count}_an_episode"] = float(self.costs(model, image, None).mean())
        return found

    def costs(self, model, image, written):
        """Nats of images, `(batch, length)`."""
        found = outputs_of(model, self.inputs(image, written))
        return sum(found[name] for name in PARTS)

    def denoising(self, model, image):
        """The share of wrong pixels by the number of readings."""
        steps = self.readings(model, image)
        wrong = [float(np.mean((step > 0.5) != image)) for step in steps]
        return {f"{n}_readings_error": share for n, share in enumerate(wrong)}

    def readings(self, model, image):
        """Images in noise, and what is read of them once, twice and so on, a list of images.

        What is written to the memory are images without noise.
        """
        model = telling(model, "recalled")
        rng, length = np.random.default_rng(SIZE), image.shape[1]
        noise = rng.random(image.shape) < NOISE
        steps = [np.where(noise, rng.integers(0, 2, image.shape), image).astype("float32")]
        written = np.tile(np.arange(2 * length) < length, (len(image), 1))
        for _ in range(READINGS):
            query = (steps[-1] > 0.5).astype("float32")
            inputs = self.inputs(np.concatenate([image, query], axis=1), written)
            steps.append(outputs_of(model, inputs)["recalled"][:, length:])
        return steps

    def figures(self, model):
        """Matplotlib figures by name: `readings` and `samples`."""
        from ..figures.images import sheet

        image = self.test_episodes(4)
        found = outputs_of(model, self.inputs(image))
        columns = min(16, image.shape[1])
        some = [step[0, :columns] for step in self.readings(model, image)]
        lines = [x[:, :columns].reshape(-1, SIZE, SIZE) for x in (image, found["sample"])]
        return {
            **self.snapshot(self.inputs(image), {}, found),
            "readings": sheet([image[0, :columns], *some]),
            "samples": sheet(lines, columns),
        }

    def snapshot(self, inputs, targets, outputs):
        """Matplotlib figures of a few rows by name: `reconstructions`."""
        from ..figures.images import sheet

        some = slice(min(16, inputs["image"].shape[1]))
        lines = [x[:2, some].reshape(-1, SIZE, SIZE) for x in (inputs["image"], outputs["mean"])]
        return {"reconstructions": sheet(lines)}

    def inputs_without_data(self, rng, size):
        """Images of chance with as much ink as digits have, which need no files."""
        shape = size, min(self.episode_length, 4), SIZE, SIZE
        return self.inputs((rng.random(shape) < INK).astype("float32"))
