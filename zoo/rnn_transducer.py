"""The RNN transducer (Graves, 2012), arXiv:1211.3711."""

import keras

from ..layers import OneHotLabels, PeepholeLSTM, RNNTransducer, WeightNoise
from ._networks import transcription_network
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="RNN transducer",
    title="Sequence Transduction with Recurrent Neural Networks",
    authors="Alex Graves",
    year=2012,
    arxiv="1211.3711",
)


def build(task, prediction_units, joint_units, weight_noise, **network):
    """A transcription network, a prediction network and their joint.

    Args:
        task: `PhonemeTransduction`.
        prediction_units: of the prediction network.
        joint_units: of the hidden layer that joins both (Graves, Mohamed and Hinton, 2013), or 0
            to add their outputs (Graves, 2012).
        weight_noise, **network: as in `transcription_network`.

    Returns:
        `keras.Model`: `audio`, `lengths` and `labels` in; `lattice`, `phonemes` and `frames`, as
        `RNNTransducer` gives them, out.
    """
    inputs, hidden, frames = transcription_network(task, weight_noise=weight_noise, **network)
    labels = keras.Input((None,), dtype="int32", name="labels")
    layer = RNNTransducer(task.classes, prediction_units, joint_units)
    layer = WeightNoise(layer, weight_noise, name="transducer")
    lattice, found, moments = layer(hidden, labels=labels, lengths=frames)
    outputs = {"lattice": lattice, "phonemes": found, "frames": moments}
    return keras.Model({**inputs, "labels": labels}, outputs)


def build_next(task, prediction_units, dropout):
    """A prediction network that tells the next label, as the transducer's is trained beforehand.

    Args:
        task: `NextPhoneme`.
        prediction_units: of the prediction network.
        dropout: share of its outputs that are left out in training.

    Returns:
        `keras.Model`: `labels` in; `next`, logits `(batch, labels, classes)`, out. Its layer
        `transducer.prediction` is what a transducer's recipe takes by `start`.
    """
    labels = keras.Input((None,), dtype="int32", name="labels")
    network = PeepholeLSTM(prediction_units, name="transducer.prediction")
    hidden = network(OneHotLabels(task.classes, name="spoken")(labels))
    if dropout:
        hidden = keras.layers.Dropout(dropout, name="dropout")(hidden)
    return keras.Model(
        {"labels": labels}, {"next": keras.layers.Dense(task.classes, name="next")(hidden)}
    )


register(
    Entry(
        name="rnn_transducer_next_phoneme",
        paper=PAPER,
        task="next_phoneme",
        build=build_next,
        config={"prediction_units": 96, "dropout": 0.3},
        train={
            "batch_size": 16,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "cosine",
            "updates": 3000,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 240,
        },
        paper_result="no number; the prediction network of the paper of 2013 begins with one",
        small={"prediction_units": 8},
    )
)

register(
    Entry(
        name="rnn_transducer_phonemes",
        paper=PAPER,
        task="phoneme_transduction",
        task_config={"speed": 0.15, "level": 6.0},
        build=build,
        config={
            "features": "log_mel",
            "deltas": 2,
            "units": 96,
            "layers": 3,
            "bidirectional": True,
            "centred": False,
            "prediction_units": 96,
            "joint_units": 96,
            "input_noise": 0.0,
            "weight_noise": 0.075,
        },
        train={
            "batch_size": 16,
            "learning_rate": 1e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 1500,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 200,
            "start": "deep_ctc_phonemes,rnn_transducer_next_phoneme",
        },
        paper_result="23.2 % on TIMIT, 25.5 % for CTC of the same size",
        small={"units": 8, "layers": 2, "prediction_units": 8, "joint_units": 8},
    )
)
