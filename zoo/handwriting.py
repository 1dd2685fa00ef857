"""Handwriting: predicting the pen, and writing a text (Graves, 2013), arXiv:1308.0850."""

import keras

from ..layers import (
    AdaptiveWeightNoise,
    DeepLSTM,
    MixtureDensity,
    OneHotLabels,
    PeepholeLSTM,
    WindowLSTM,
)
from ..layers._base import whole
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="LSTM with a mixture density",
    title="Generating Sequences With Recurrent Neural Networks",
    authors="Alex Graves",
    year=2013,
    arxiv="1308.0850",
)
CLIP = 10.0  # of the derivatives by what enters cells and window (sections 4.2 and 5.2)


def noisy(adaptive_noise, layer):
    """The layer as it is, or with the paper's noise on its weights for so many examples."""
    if not adaptive_noise:
        return layer
    name = layer.name
    return AdaptiveWeightNoise(layer, adaptive_noise, name=f"{name}_noise")


def build_prediction(task, units, layers, components, adaptive_noise):
    """A network that tells where the pen goes next (section 4).

    Args:
        task: `HandwritingPrediction`.
        units: of each layer.
        layers: of LSTM cells, each with the input and all of them at the output.
        components: M, Gaussians of the density.
        adaptive_noise: rows of the training set, for adaptive noise on the weights; 0 for none.

    Returns:
        `keras.Model`: `points` in; `points`, the parameters of the densities of the next ones, out.
    """
    points = keras.Input((None, 3), name="points")
    network = DeepLSTM(
        units, layers, skips=True, clip_derivatives=CLIP, return_state=True, name="network"
    )
    hidden, *_ = noisy(adaptive_noise, network)(points)
    density = noisy(adaptive_noise, MixtureDensity(components, name="density"))
    return keras.Model({"points": points}, {"points": density(hidden)})


def build_synthesis(task, units, layers, window, steps_per_symbol, components, adaptive_noise):
    """A network that writes a text (section 5).

    The first layer moves a window over the text. All layers see the pen's last point, those above
    the first see the window and the layer below as well, and the density sees all of them.

    Args:
        task: `HandwritingSynthesis`.
        units: of each layer.
        layers: of LSTM cells, the one with the window included.
        window: K, Gaussians of the window.
        steps_per_symbol: points that the window takes for a symbol at first.
        components: M, Gaussians of the density.
        adaptive_noise: as in `build_prediction`.

    Returns:
        `keras.Model`: `points` and `text` in; `points`, the parameters of the densities of the next
        ones, and `window`, its weights at each point, `(batch, time, places + 1)`, out.
    """
    points = keras.Input((None, 3), name="points")
    text = keras.Input((None,), dtype="int32", name="text")
    symbols = OneHotLabels(task.classes, name="symbols")(text)
    cells = WindowLSTM(
        units, window, steps_per_symbol, clip_derivatives=CLIP, return_state=True, name="layer_0"
    )
    below, seen, weights, *_ = noisy(adaptive_noise, cells)(points, text=symbols)
    outputs = [below]
    for i in range(1, whole("layers", layers, 1)):
        cells = PeepholeLSTM(units, clip_derivatives=CLIP, return_state=True, name=f"layer_{i}")
        inputs = keras.layers.Concatenate(name=f"seen_{i}")([points, below, seen])
        below, *_ = noisy(adaptive_noise, cells)(inputs)
        outputs.append(below)
    hidden = keras.layers.Concatenate(name="hidden")(outputs) if layers > 1 else below
    density = noisy(adaptive_noise, MixtureDensity(components, name="density"))
    return keras.Model(
        {"points": points, "text": text}, {"points": density(hidden), "window": weights}
    )


RECIPE = {
    "batch_size": 16,
    "learning_rate": 4e-3,
    "learning_rate_schedule": "cosine",
    "ema": 0.998,
    "updates": 12_000,
    "steps_per_epoch": 250,
    "evaluation_rows": 1000,
}

register(
    Entry(
        name="handwriting_prediction",
        paper=PAPER,
        task="handwriting_prediction",
        build=build_prediction,
        config={"units": 128, "layers": 3, "components": 10, "adaptive_noise": 0},
        train=RECIPE,
        paper_result="on IAM-OnDB -1041.0 nats a line with 3 layers of 400, -1057.7 with adaptive "
        "noise",
        small={"units": 8, "layers": 2, "components": 2},
    )
)

register(
    Entry(
        name="handwriting_synthesis",
        paper=PAPER,
        task="handwriting_synthesis",
        build=build_synthesis,
        config={
            "units": 128,
            "layers": 3,
            "window": 10,
            "steps_per_symbol": 12.0,
            "components": 10,
            "adaptive_noise": 0,
        },
        train=RECIPE,
        paper_result="on IAM-OnDB -1096.9 nats a line with 3 layers of 400, -1128.2 with adaptive "
        "noise",
        told={"window": "the weights of the characters at each point"},
        small={"units": 8, "layers": 2, "window": 2, "components": 2, "steps_per_symbol": 2.0},
    )
)
