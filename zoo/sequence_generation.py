"""Text of "Generating Sequences With Recurrent Neural Networks" (Graves, 2013), arXiv:1308.0850."""

import keras

from ..layers import AdaptiveWeightNoise, DeepLSTM, WeightNoise, Words
from ._networks import build_bytes
from ._registry import Entry, Paper, register
from .signatures.characters import BYTES

PAPER = Paper(
    mechanism="deep LSTM with skips",
    title="Generating Sequences With Recurrent Neural Networks",
    authors="Alex Graves",
    year=2013,
    arxiv="1308.0850",
)
REGULARIZERS = "none", "weight_noise", "adaptive"


def build_text(task, units, layers, regularizer, weight_noise, clip_derivatives):
    """LSTM layers that all see the input and are all seen at the output, on bytes (section 3).

    The paper has 7 layers of 700 units, "about 21.3M weights", for Wikipedia, which are 30.5
    million by its equations (5 layers have 21.2), and one layer of 1,000 for the Penn Treebank.

    Args:
        task: `RunningText`.
        units, layers: of the `DeepLSTM`.
        regularizer: "none", "weight_noise" or "adaptive"; with noise a model should begin (`start`)
            with the weights of one without, and one with adaptive noise with those of either.
        weight_noise: standard deviation of the noise, or of adaptive noise at first.
        clip_derivatives: bound of the derivatives by what enters the gates.

    Returns:
        `keras.Model`: `sequence` in, the logits `next` of the byte after each out.

    Raises:
        ValueError: there is no such regularizer, or `weight_noise` is negative.
    """
    stack = _stack(units, layers, clip_derivatives)
    head = keras.layers.Dense(BYTES)
    return build_bytes(
        _regularized(stack, "hidden", task, regularizer, weight_noise),
        _regularized(head, "next", task, regularizer, weight_noise),
    )


def build_words(task, units, layers, embedding, regularizer, weight_noise, clip_derivatives):
    """The network of `build_text` on words (section 3.1).

    Args:
        task: `RunningWords`.
        embedding: size of the learnt vectors that stand for words where they are read and where
            they are said (Press and Wolf, 2017); 0 for the paper's, one-hot. They get no noise.
        units, layers, regularizer, weight_noise, clip_derivatives: as in `build_text`.

    Returns:
        `keras.Model`: `sequence` in, the logits `next` of the word after each out. Its layer
        `words` holds the words.

    Raises:
        ValueError: there is no such regularizer, or `weight_noise` is negative.
    """
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    words = Words(task.vocabulary, embedding, name="words")
    stack = _stack(units, layers, clip_derivatives)
    hidden, *_ = _regularized(stack, "hidden", task, regularizer, weight_noise)(words(sequence))
    head = keras.layers.Dense(embedding or task.classes)
    logits = _regularized(head, "next", task, regularizer, weight_noise)(hidden)
    if embedding:
        logits = words(logits, reverse=True)
    return keras.Model({"sequence": sequence}, {"next": logits})


def _stack(units, layers, clip_derivatives):
    return DeepLSTM(
        units,
        layers,
        skips=True,
        forget_bias=1.0,
        clip_derivatives=clip_derivatives,
        return_state=True,
    )


def _regularized(layer, name, task, regularizer, weight_noise):
    if not weight_noise >= 0:
        raise ValueError(f"weight_noise must be 0 or more, got {weight_noise}")
    if regularizer == "adaptive":
        return AdaptiveWeightNoise(layer, task.examples(), weight_noise, name=name)
    if regularizer not in REGULARIZERS:
        raise ValueError(f"regularizer must be one of {REGULARIZERS}, got {regularizer!r}")
    noise = weight_noise if regularizer == "weight_noise" else 0.0
    return WeightNoise(layer, noise, name=name)


CONFIG = {
    "units": 256,
    "layers": 1,
    "regularizer": "none",
    "weight_noise": 0.075,
    "clip_derivatives": 1.0,
}
TRAIN = {
    "learning": "truncated_bptt",
    "learning_rate": 2e-3,
    "learning_rate_schedule": "cosine",
    "decay_from": 0.5,
    "batch_size": 32,
    "steps_per_epoch": 500,
}

register(
    Entry(
        name="generation_wikipedia",
        paper=PAPER,
        small={"units": 8},
        task="running_text",
        task_config={"dynamic_rate": 2e-5},
        build=build_text,
        config={**CONFIG, "units": 192, "layers": 2},
        train={**TRAIN, "updates": 8000},
        paper_result="enwik8: 1.67 bits per character, 1.33 with dynamic evaluation",
    )
)

register(
    Entry(
        name="generation_characters",
        paper=PAPER,
        small={"units": 8},
        task="running_text",
        task_config={"data": "words", "dynamic_rate": 2e-5},
        build=build_text,
        config=CONFIG,
        train={**TRAIN, "updates": 12_000},
        paper_result="Penn Treebank: 1.32 bits per character, perplexity 167; 1.29 and 148 with "
        "dynamic evaluation; with weight noise 1.27 and 140, 1.24 and 124",
    )
)

register(
    Entry(
        name="generation_words",
        paper=PAPER,
        task="running_words",
        task_config={"dynamic_rate": 2e-5},
        build=build_words,
        config={**CONFIG, "units": 240, "embedding": 64},
        train={**TRAIN, "updates": 4000, "steps_per_epoch": 250},
        paper_result="Penn Treebank: perplexity 138, 126 with dynamic evaluation; with weight "
        "noise 126 and 117",
        small_task={"words": 60},
        small={"units": 8, "embedding": 8},
    )
)
