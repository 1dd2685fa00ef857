"""Automated curricula (Graves et al., 2017), arXiv:1704.03003."""

import keras

from ..layers import AdaptiveWeightNoise, DeepLSTM, SequenceMask
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="a teacher",
    title="Automated Curriculum Learning for Neural Networks",
    authors="Alex Graves, Marc G. Bellemare, Jacob Menick, Remi Munos, Koray Kavukcuoglu",
    year=2017,
    arxiv="1704.03003",
)


def build(task, units, layers, stddev, examples):
    """LSTM layers, whose weights are numbers or distributions (section 5).

    Args:
        task: a task of vectors of bits.
        units, layers: of the `DeepLSTM`.
        stddev: of the distributions of weights at first, which are learnt by their description
            length; 0 for weights that are numbers.
        examples: rows of the training set, by which that length is shared out.

    Returns:
        `keras.Model`: `sequence` and `lengths` in, `bits`, the logits of 1, out.

    Raises:
        ValueError: `stddev` is negative, or `examples` not more than 0.
    """
    if not stddev >= 0:
        raise ValueError(f"stddev must be 0 or more, got {stddev}")
    if not examples > 0:
        raise ValueError(f"examples must be more than 0, got {examples}")
    sequence = keras.Input((None, task.channels), name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = SequenceMask()(sequence, lengths)

    def weighed(layer, name):
        return AdaptiveWeightNoise(layer, examples, stddev, name=name) if stddev else layer

    stack = DeepLSTM(units, layers, peepholes=False, forget_bias=1.0, skips=True)
    hidden = weighed(stack, "hidden")(sequence, mask=mask)
    bits = weighed(keras.layers.Dense(task.outputs), "readout")(hidden)
    return keras.Model({"sequence": sequence, "lengths": lengths}, {"bits": bits})


register(
    Entry(
        name="curriculum_repeat_copy",
        paper=PAPER,
        task="repeat_copy",
        task_config={"length": 5, "repeats": 5, "bits": 4},
        build=build,
        config={"units": 128, "layers": 1, "stddev": 0.0, "examples": 100_000},
        train={
            "learning": "syllabus",
            "teacher_rate": 1e-2,
            "learning_rate": 1e-3,
            "updates": 15_000,
            "steps_per_epoch": 250,
            "solved": 0.5,
        },
        paper_result="13 x 13 grid: prediction gain slightly faster than uniform sampling; the "
        "target alone fails to learn (curves only)",
        baseline="uniform sampling",
        small={"units": 8},
        small_task={"length": 2, "repeats": 2},
    )
)
