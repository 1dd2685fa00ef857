"""Reads `.keras` files, which may be damaged, and takes weights from them."""

import os
import warnings
import zipfile

import keras

from ..layers._noisy import NoisyWeights
from ._machine import keep_freed_memory


def read_model(path):
    """The `keras.Model` in a `.keras` file; what runs code of the file's own is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no model, or not all of its weights; in one line.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} is no .keras file, or is cut off")
    try:
        with warnings.catch_warnings():
            # Keras only warns where weights are missing, and leaves those layers untrained.
            warnings.filterwarnings("error", "Skipping|.*freshly-initialized")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path} holds no model that can be loaded ({type(error).__name__}: {text[:300]})"
        ) from error


def begun(build, task, recipe, run):
    """The model that a run learns, as it begins where the run is new.

    It is prepared by its task, and has the weights that the recipe names (`take_weights`).
    """
    keep_freed_memory()
    keras.utils.set_random_seed(recipe.seed)
    model = build()
    if run.is_new:
        task.prepare(model)
        for name in filter(None, recipe.start.split(",")):
            take_weights(model, run.find(name.strip()))
    return model


def take_weights(model, start):
    """Gives the layers of a model the weights of layers of the same name in a `.keras` file.

    A name with a dot, `transducer.prediction`, is that of a layer within a layer. Layers with noise
    on their weights give and take those of the layer in them. A layer that has weights which the
    other lacks, as those of a condition, keeps its own of these.

    Raises:
        FileNotFoundError: there is no such file, or run.
        ValueError: no layer with weights has the name of another, or their shapes differ.
    """
    path = os.path.join(start, "model.keras") if os.path.isdir(start) else start
    there = {layer.name: bare(layer) for layer in read_model(path).layers if layer.weights}
    taken = {name: bare(_layer(model, name)) for name in there if _layer(model, name)}
    if not taken:
        names = [layer.name for layer in model.layers if layer.weights]
        raise ValueError(f"{path} has layers {sorted(there)}, and none of {sorted(names)}")
    for name, layer in taken.items():
        given, weights = there[name].weights, _like(layer, there[name])
        found, expected = [w.shape for w in given], [w.shape for w in weights]
        if found != expected:
            raise ValueError(
                f"the layer {name} needs weights of {expected}, and has {found} in {path}"
            )
        for weight, value in zip(weights, given):
            weight.assign(value)


def _like(layer, other):
    """The weights of a layer; where it has more than the other, those that the other names."""
    if len(layer.weights) <= len(other.weights):
        return layer.weights
    named = {_within(layer, weight): weight for weight in layer.weights}
    names = [_within(other, weight) for weight in other.weights]
    return [named[name] for name in names] if set(names) <= set(named) else layer.weights


def _within(layer, weight):
    """The path of a weight below its layer."""
    return weight.path.split(f"{layer.name}/", 1)[-1]


def bare(layer):
    """A layer without the noise on its weights."""
    return layer.layer if isinstance(layer, NoisyWeights) else layer


def _layer(model, name):
    """The layer of that name, with weights, or None."""
    first, *within = name.split(".")
    layer = {layer.name: layer for layer in model.layers if layer.weights}.get(first)
    for part in within:
        # What is in a wrapper, such as `WeightNoise`, has the wrapper's name.
        layer = getattr(getattr(layer, "layer", layer), part, None)
    return layer
