"""Images in, what they cost out, beside one like them and alone; seeds in, images out."""

import keras
from keras import ops

from . import binary_digits

COST = {
    "unordered_nats": "minus a bound of the log-probability when no neighbour is known, (batch,)",
    "neighbour": "number of the image of training by whose code the image was told, (batch,)",
}


def signatures(model, task, told):
    """Those of `binary_digits`, for images that are not of the set of training."""
    told = {**{name: COST[name] for name in COST if name in model.output}, **told}
    return binary_digits.signatures(of_no_set(model), task, told)


def of_no_set(model):
    """The model without the input `index`."""
    given = {name: x for name, x in model.input.items() if name != "index"}
    given = {name: keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in given.items()}
    index = ops.full_like(given["seed"], -1)
    return keras.Model(given, model({**given, "index": index}))


notation = binary_digits.notation
