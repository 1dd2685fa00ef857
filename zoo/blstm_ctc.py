"""BLSTM-CTC (Fernandez, Graves and Schmidhuber, 2008), arXiv:0804.3269."""

import keras

from ..layers import DeepLSTM, SequenceMask, SureOfBlank, WeightNoise
from ._networks import build_ctc
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="BLSTM-CTC",
    title="Phoneme recognition in TIMIT with BLSTM-CTC",
    authors="Santiago Fernández, Alex Graves, Jürgen Schmidhuber",
    year=2008,
    arxiv="0804.3269",
)

register(
    Entry(
        name="blstm_ctc_phonemes",
        paper=PAPER,
        task="phonemes",
        task_config={"speed": 0.15, "level": 6.0},
        build=build_ctc,
        config={
            "features": "mfcc",
            "deltas": 2,
            "units": 128,
            "layers": 1,
            "bidirectional": True,
            "centred": False,
            "input_noise": 0.3,
            "weight_noise": 0.0,
        },
        train={
            "batch_size": 16,
            "learning_rate": 2e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 4000,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 200,
        },
        paper_result="24.6 % on TIMIT by prefix search, 25.2 % by best path",
        small={"units": 8},
    )
)


def build_reader(task, units, layers, bidirectional, weight_noise):
    """A network of CTC that reads the points of a pen (Graves, Liwicki et al., 2009).

    Args:
        task: `HandwritingRecognition`.
        units, layers, bidirectional: of the `DeepLSTM`.
        weight_noise: standard deviation of noise on the weights in training.

    Returns:
        `keras.Model`: `points` and `lengths` in; `text`, logits `(batch, time, classes)`, out, sure
        of the blank, class 0, at padded points.
    """
    points = keras.Input((None, 3), name="points")
    lengths = keras.Input((), dtype="int32", name="lengths")
    stack = DeepLSTM(units, layers, bidirectional=bidirectional)
    mask = SequenceMask()(points, lengths)
    hidden = WeightNoise(stack, weight_noise, name="transcription")(points, mask=mask)
    readout = WeightNoise(keras.layers.Dense(task.classes), weight_noise, name="readout")
    inputs = {"points": points, "lengths": lengths}
    return keras.Model(inputs, {"text": SureOfBlank()(readout(hidden), lengths)})


register(
    Entry(
        name="blstm_ctc_handwriting",
        paper=PAPER,
        task="handwriting_recognition",
        build=build_reader,
        config={"units": 96, "layers": 1, "bidirectional": True, "weight_noise": 0.0},
        train={
            "batch_size": 32,
            "learning_rate": 3e-3,
            "learning_rate_schedule": "cosine",
            "decay_from": 0.3,
            "updates": 4000,
            "steps_per_epoch": 125,
            "validation_rows": 200,
            "evaluation_rows": 1000,
        },
        paper_result="no number; the paper reads phonemes",
        small={"units": 8},
        small_task={"length": 60},
    )
)
