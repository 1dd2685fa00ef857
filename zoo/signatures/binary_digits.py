"""Images in, what they cost out; seeds in, images out."""

import numpy as np

from . import _windows
from ._checks import check_ink
from ._drawing import image_of, text_of
from ._notation import Notation, whole_numbers
from ._signature import Signature, handed_on

SEEDS = (None,), "int32"
COST = {
    "nats": "minus a bound of the image's log-probability, by one sample, (batch,)",
    "reconstruction": "the part of it that is for the pixels, (batch,)",
    "kl": "the part of it that is for what is said of the image, (batch,)",
}
PAINTED = {
    "mean": "the chance of each pixel to be 1, (batch, height, width)",
    "steps": "the same after each step, (batch, steps, height, width)",
    **_windows.MEANINGS,
    "kl_steps": "the part of it that is for what is said at each step, (batch, steps)",
}
REMADE = {**{name: name for name in PAINTED}, "kl_steps": "kl"}
MADE = {"mean": "sample", "steps": "sample_steps", "write_windows": "sample_windows"}
"""What `PAINTED` are called among the outputs of models, of an image and of chance."""


def signatures(model, task, told):
    """`serve` says what images cost, `reconstruct` makes them again, `generate` makes new ones."""
    import tensorflow as tf

    shape, _ = task.input_spec["image"]

    def asked(image, seed):
        check_ink(image)
        return model({"image": image, "seed": seed})

    def told_of(answer):
        parts = {name: tf.cast(answer[name], tf.float32) for name in COST}
        parts = {k: tf.reduce_sum(x, axis=range(1, len(x.shape))) for k, x in parts.items()}
        return {**parts, **handed_on(answer, told)}

    def serve(image, seed):
        return told_of(asked(image, seed))

    def reconstruct(image, seed):
        answer = asked(image, seed)
        return {**told_of(answer), **named(answer, remade)}

    def generate(seed):
        nothing = tf.zeros((tf.shape(seed)[0], *shape))
        return named(model({"image": nothing, "seed": seed}), made)

    def named(answer, names):
        return {name: tf.cast(answer[key], tf.float32) for name, key in names.items()}

    def there(names):
        found = {name: key for name, key in names.items() if key in model.output}
        return found if "steps" in found else {"mean": names["mean"]}

    def signature(function, given, sample, names, meanings):
        meanings = {**{name: PAINTED[name] for name in names}, **meanings}
        shown = _windows.shown(meanings)
        images = tuple(name for name in ("image", "mean", "steps") if name in {**given, **meanings})
        return Signature(function, given, sample, meanings, images=images, **shown)

    seeds = {"seed": np.array([1, 2], "int32")}
    images = {"image": task.inputs_without_data(np.random.default_rng(0), 2)["image"], **seeds}
    remade, made = map(there, (REMADE, MADE))
    given, cost = {"image": ((None, *shape), "float32"), "seed": SEEDS}, {**COST, **told}
    return {
        "serve": signature(serve, given, images, {}, cost),
        "reconstruct": signature(reconstruct, given, images, remade, cost),
        "generate": signature(generate, {"seed": SEEDS}, seeds, made, {}),
    }


def notation(task):
    """For `generate` a whole number, the seed of an image; nobody writes an image."""

    def read(texts):
        return {"seed": whole_numbers(texts, "a whole number, the seed of an image")}

    def show(inputs, outputs):
        return [text_of(image) for image in outputs["mean"]]

    def picture(inputs, outputs):
        nothing = [()] * len(outputs["mean"])
        parts = (outputs.get(name, nothing) for name in ("steps", "write_windows"))
        rows = zip(outputs["mean"], inputs["seed"], *parts)
        return [image_of(image, f"seed {seed}", *steps) for image, seed, *steps in rows]

    return {"generate": Notation(("7", "8"), read, show, picture, in_pictures=True)}
