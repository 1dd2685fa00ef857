"""Automated curricula (Graves et al., 2017), arXiv:1704.03003."""

import keras

from ..layers import AdaptiveWeightNoise, DeepLSTM, PeepholeLSTM, SequenceMask
from ..trainers.data import sotu_ngrams
from ._registry import Entry, Paper, register

PAPER = Paper(
    mechanism="a teacher",
    title="Automated Curriculum Learning for Neural Networks",
    authors="Alex Graves, Marc G. Bellemare, Jacob Menick, Remi Munos, Koray Kavukcuoglu",
    year=2017,
    arxiv="1704.03003",
)


def build_bits(task, units, layers, stddev, examples):
    """LSTM layers on vectors of bits (section 4).

    Args:
        task: a task of vectors of bits.
        units, layers: of the `DeepLSTM`.
        stddev: of the distributions of weights at first, which are learnt by their description
            length (`AdaptiveWeightNoise`); 0 for weights that are numbers.
        examples: rows of the training set, by which that length is shared out.

    Returns:
        `keras.Model`: `sequence` and `lengths` in, `bits`, the logits of 1, out.

    Raises:
        ValueError: `stddev` is negative, or `examples` not more than 0.
    """
    sequence = keras.Input((None, task.channels), name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = SequenceMask()(sequence, lengths)

    weighed = _weighing(stddev, examples)
    options = {"peepholes": False, "forget_bias": 1.0, "skips": True, "name": "hidden"}
    hidden = weighed(DeepLSTM(units, layers, **options))(sequence, mask=mask)
    bits = weighed(keras.layers.Dense(task.outputs, name="readout"))(hidden)
    return keras.Model({"sequence": sequence, "lengths": lengths}, {"bits": bits})


def build_text(task, units, stddev=0.0, examples=100_000):
    """An LSTM layer on the characters of short texts (section 4).

    Args:
        task: a `TextTask`.
        units: of the LSTM.
        stddev, examples: as in `build_bits`.

    Returns:
        `keras.Model`: `sequence` and `lengths` in, the logits `next` of the character after each
        out.

    Raises:
        ValueError: as in `build_bits`.
    """
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = SequenceMask()(sequence, lengths)
    weighed = _weighing(stddev, examples)
    hidden, *_ = weighed(_lstm(units))(keras.ops.one_hot(sequence, task.classes), mask=mask)
    logits = weighed(keras.layers.Dense(task.classes, name="next"))(hidden)
    return keras.Model({"sequence": sequence, "lengths": lengths}, {"next": logits})


def build_stories(task, units, stddev=0.0, examples=100_000):
    """An LSTM layer on the words of stories (section 4).

    Args:
        task: `Stories`.
        units: of the LSTM, and of the learnt vectors that stand for words.
        stddev, examples: as in `build_bits`.

    Returns:
        `keras.Model`: `sequence` and `lengths` in, the logits `answer` of all words out.

    Raises:
        ValueError: as in `build_bits`.
    """
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    mask = SequenceMask()(sequence, lengths)
    weighed = _weighing(stddev, examples)
    words = weighed(keras.layers.Embedding(task.classes, units, name="words"))(sequence)
    _, last, _ = weighed(_lstm(units))(words, mask=mask)
    logits = weighed(keras.layers.Dense(task.classes, name="answer"))(last)
    return keras.Model({"sequence": sequence, "lengths": lengths}, {"answer": logits})


def _lstm(units):
    return PeepholeLSTM(units, peepholes=False, forget_bias=1.0, return_state=True, name="memory")


def _weighing(stddev, examples):
    """What makes the weights of a layer distributions, where `stddev` is not 0."""
    if not stddev >= 0:
        raise ValueError(f"stddev must be 0 or more, got {stddev}")
    if not examples > 0:
        raise ValueError(f"examples must be more than 0, got {examples}")

    def weighed(layer):
        return AdaptiveWeightNoise(layer, examples, stddev, name=layer.name) if stddev else layer

    return weighed


register(
    Entry(
        name="curriculum_repeat_copy",
        paper=PAPER,
        task="repeat_copy",
        task_config={"length": 5, "repeats": 5, "bits": 4},
        build=build_bits,
        config={"units": 128, "layers": 1, "stddev": 0.0, "examples": 100_000},
        train={
            "learning": "syllabus",
            "teacher_rate": 1e-2,
            "learning_rate": 5e-3,
            "updates": 12_000,
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

register(
    Entry(
        name="curriculum_ngrams",
        paper=PAPER,
        task="ngram_texts",
        build=build_text,
        config={"units": 128, "stddev": 0.0, "examples": sotu_ngrams.EXAMPLES},
        train={
            "learning": "syllabus",
            "signal": "gradient_l2_gain",
            "teacher_rate": 1e-2,
            "learning_rate": 2e-3,
            "updates": 6000,
            "steps_per_epoch": 200,
            "evaluation_rows": 1000,
            "validation_rows": 250,
            "solved": 3.0,
        },
        paper_result="complexity gains soon show the 10-grams alone, prediction gains drift there "
        "(curves only)",
        baseline="uniform sampling",
        small={"units": 8},
    )
)

register(
    Entry(
        name="curriculum_stories",
        paper=PAPER,
        task="stories",
        build=build_stories,
        config={"units": 128, "stddev": 0.0, "examples": 100_000},
        train={
            "learning": "syllabus",
            "teacher_rate": 1e-2,
            "learning_rate": 2e-3,
            "updates": 20_000,
            "steps_per_epoch": 500,
            "evaluation_rows": 5000,
            "lesson_rows": 250,
            "solved": 0.05,
        },
        paper_result="bAbI: prediction gain and self prediction gain solve more tasks sooner than "
        "uniform sampling (curves only)",
        baseline="uniform sampling",
        small={"units": 8},
    )
)
