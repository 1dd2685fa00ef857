"""What people write to the entries, and what they read."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.zoo.signatures._notation import over_text
from ponderzoo.zoo.signatures.copy import signatures
from small import small_model, small_task

HUGE = """
import sys
import tensorflow as tf
from test_notation import small_signature

served = small_signature(*sys.argv[1:3])

@tf.function
def answer(**inputs):
    return served.function(**inputs)

inputs = {name: tf.constant(value) for name, value in served.sample.items()}
try:
    answer(**inputs | {sys.argv[3]: tf.fill(tf.shape(inputs[sys.argv[3]]), 2**31 - 1)})
except tf.errors.InvalidArgumentError as error:
    print(error.message)
"""


def small_signature(name, key):
    """A signature of an entry's small model, without weights that were learnt."""
    return zoo.info(name).signatures(small_model(name), small_task(name))[key]


@pytest.mark.parametrize(
    "asked",
    [
        ("act_wikipedia", "sample", "length"),
        ("acn_digits", "daydream", "steps"),
        ("dqn_catch", "play", "steps"),
        ("generation_words", "sample", "length"),
        ("handwriting_synthesis", "write", "most"),
    ],
)
def test_no_room_is_made_for_more_than_may_be_asked_for(asked, fresh):
    """Room for 2**31 things ends the whole process, that of a server as well."""
    said = fresh(HUGE, *asked)
    assert "must be" in said and "got] [2147483647 2147483647]" in said


@pytest.mark.parametrize(
    "asked, number, words",
    [
        (("act_parity", "serve", "bits"), -(2**31), r"bits must be -1 to 1, got"),
        (
            ("grid_lstm_memorization", "serve", "lengths"),
            2**31 - 1,
            r"lengths must be 0 to\] \[\d+",
        ),
        (("mdrnn_lines", "serve", "lengths"), -1, r"lengths must be 0 to\] \[\d+\] \[.* columns"),
        (("rnn_transducer_phonemes", "step", "label"), -1, r"label must be 0 to \d+, got"),
        (("rnn_transducer_phonemes", "step", "label"), 999, r"label must be 0 to \d+, got"),
    ],
)
def test_a_graph_refuses_a_number_out_of_range(asked, number, words):
    *names, key = asked
    served = small_signature(*names)
    inputs = served.sample | {key: served.sample[key].copy()}
    inputs[key].flat[0] = number
    answer = tf.function(served.function, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        answer(**{name: tf.constant(value) for name, value in inputs.items()})


@pytest.mark.parametrize(
    "name, key, of",
    [
        ("act_sort", "serve", "numbers"),
        ("blstm_ctc_handwriting", "serve", "points"),
        ("blstm_ctc_phonemes", "serve", "audio"),
        ("handwriting_prediction", "score", "points"),
        ("ntm_copy", "serve", "sequence"),
        ("bytenet_wikipedia", "step", "queue_0"),
    ],
)
def test_what_is_no_number_is_refused(name, key, of):
    served = small_signature(name, key)
    inputs = {name: np.array(value) for name, value in served.sample.items()}
    inputs[of].flat[0] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{of} must be finite, got"):
        served.function(**{name: tf.constant(value) for name, value in inputs.items()})


def notation(name, signature="serve", **settings):
    entry = zoo.info(name)
    return entry.notation(zoo.task_of(entry, **settings))[signature]


def lines(*lines):
    return "\n".join(lines)


def test_parity():
    written = notation("act_parity", bits=6)
    inputs = written.read(["1011-0", "1 -"])
    assert inputs["bits"].tolist() == [[1, 0, 1, 1, -1, 0], [1, -1, 0, 0, 0, 0]]
    outputs = {
        "odd": np.array([1, 0]),
        "probability": np.array([0.98, 0.25]),
        "updates": np.array([[7.0], [2.0]]),
    }
    assert written.show(inputs, outputs) == [
        lines("bits      1011-0", "ones      odd (0.98)   right", "updates   7"),
        lines("bits      1-0000", "ones      even (0.75)   wrong", "updates   2"),
    ]


def test_logic():
    written = notation("act_logic", gates=2)
    inputs = written.read(["10 xor AND | 1 NOR | 0", "01"])
    assert inputs["lengths"].tolist() == [3, 1]
    assert inputs["bits"][0].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert inputs["gates_applied"][0].tolist() == [[3, 5], [0, -1], [-1, -1]]
    outputs = {
        "truth": np.array([[0, 0, 1], [1, 0, 0]]),
        "updates": np.array([[4.0, 3, 2], [1, 0, 0]]),
    }
    assert written.show(inputs, outputs) == [
        lines(
            "vector      answer  updates",
            "10 XOR AND       F        4   right",
            "1 NOR            F        3   right",
            "0                T        2   wrong",
        ),
        lines("vector  answer  updates", "01           T        1   right"),
    ]


def test_logic_knows_the_truth_of_the_task():
    entry = zoo.info("act_logic")
    task, written = zoo.task_of(entry), notation("act_logic")
    given, targets = task.batch(np.random.default_rng(0), 20)
    one_hot = given["sequence"][..., 2:].reshape(20, task.length, task.gates, 10)
    inputs = {
        "bits": given["sequence"][..., :2].astype("int32"),
        "gates_applied": np.where(one_hot.any(-1), one_hot.argmax(-1), -1),
        "lengths": given["lengths"],
    }
    outputs = {"truth": targets["truth"].astype(int), "updates": np.ones((20, task.length))}
    shown = written.show(inputs, outputs)
    assert not any("wrong" in text for text in shown)
    told = [" | ".join(line[:-25].rstrip() for line in t.splitlines()[1:]) for t in shown]
    again = written.read(told)
    for row, length in enumerate(inputs["lengths"]):
        for name, array in inputs.items():
            part = (row, slice(length)) if array.ndim > 1 else row
            assert np.array_equal(again[name][part], array[part])


def test_addition():
    written = notation("act_addition")
    inputs = written.read(["381 4 99", "7 + 5", "0012"])
    assert inputs["lengths"].tolist() == [3, 2, 1]
    assert inputs["numbers"].tolist() == [["381", "4", "99"], ["7", "5", ""], ["0012", "", ""]]
    outputs = {
        "sums": np.array([[b"", b"385", b"484"], [b"", b"13", b""], [b"", b"", b""]], object),
        "updates": np.array([[2.0, 5, 8], [1, 4, 0], [3, 0, 0]]),
    }
    assert written.show(inputs, outputs) == [
        lines(
            "numbers         381  +     4  +    99",
            "answers                  385      484   right",
            "updates           2        5        8",
        ),
        lines(
            "numbers           7  +     5",
            "answers                   13   wrong",
            "truth                     12",
            "updates           1        4",
        ),
        lines("numbers     0012", "answers", "updates        3"),
    ]


def test_sort():
    written = notation("act_sort")
    inputs = written.read(["0.3 -1 2", "5 1e-2"])
    assert inputs["lengths"].tolist() == [3, 2]
    np.testing.assert_allclose(inputs["numbers"], [[0.3, -1, 2], [5, 0.01, 0]])
    outputs = {
        "order": np.array([[1, 0, 2], [7, 0, -1]]),
        "updates": np.array([[1.0, 2, 3, 4, 5, 6], [1, 2, 3, 4, 0, 0]]),
    }
    assert written.show(inputs, outputs) == [
        lines(
            "numbers     0.3   -1    2",
            "updates       1    2    3",
            "ascending    -1  0.3    2   right",
            "updates       4    5    6",
        ),
        lines(
            "numbers        5  0.01",
            "updates        1     2",
            "ascending      ?     5   wrong",
            "updates        3     4",
        ),
    ]


def test_texts():
    written = notation("act_wikipedia")
    inputs = written.read(["ab\n", "ü\udcff"])
    assert inputs["text"].tolist() == [b"ab\n", b"\xc3\xbc\xff"]
    outputs = {
        "next_bytes": np.array([b"c", b"\xff"], object),
        "probability": np.array([0.5, 1.0]),
        "updates": np.array([[1.0, 2, 3], [4, 5, 12]]),
    }
    assert written.show(inputs, outputs) == [
        lines("text      ab␊", "updates   123", 'next      "c" (0.50)'),
        lines("text      ü�", "updates   9+", r'next      "\\xff" (1.00)'),
    ]
    scores = {
        "bits": np.array([[0.0, 1.5, 2.5], [0, 1, 2]]),
        "entropy": np.ones((2, 3)),
        "updates": outputs["updates"],
    }
    assert notation("act_wikipedia", "score").show(inputs, scores)[0] == lines(
        "text      ab␊",
        "bits       22",
        "entropy   111",
        "updates   123",
        "mean      2.00 bits per character, 2.00 updates",
    )
    written = notation("act_wikipedia", "sample")
    inputs = written.read(["ab"])
    assert {key: value.tolist() for key, value in inputs.items()} == {
        "prompt": [b"ab"],
        "length": [80],
        "temperature": [0.5],
        "seed": [1],
    }
    outputs = {"text_bytes": np.array([b"cd"], object), "updates": np.array([[3.0, 4.0]])}
    assert written.show(inputs, outputs) == [lines("text      abcd", "updates     34")]


def sure(bits, *unsure):
    """Answers of 0 and 1 with a probability of 0.99, but at (row, step, place, p of the answer)."""
    bits = np.array(bits)
    probability = np.where(bits > 0, 0.99, 0.01)
    for *place, p in unsure:
        probability[tuple(place)] = p if bits[tuple(place)] else 1 - p
    return {"bits": bits, "probability": probability}


def bits_of(text):
    """Words of eight bits."""
    return [[int(bit) for bit in f"{int(word, 16):08b}"] for word in text.split()]


def test_copy():
    written = notation("ntm_copy")
    inputs = written.read(["35 E2 00001111", "ff"])
    assert inputs["lengths"].tolist() == [7, 3]
    assert inputs["sequence"].shape == (2, 7, 9) and inputs["sequence"].dtype == "float32"
    assert inputs["sequence"][0, :3, :8].tolist() == bits_of("35 e2 0f")
    assert inputs["sequence"][:, :, 8].tolist() == [[0, 0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]]
    outputs = sure([bits_of("1 2 3 4 35 e2 1f"), bits_of("1 2 ff 0 0 0 0")], (0, 6, 3, 0.52))
    assert written.show(inputs, outputs) == [
        lines(
            "vectors       35    e2    0f",
            "copied        35    e2    1f   wrong",
            "unsure         -     -  0.52",
        ),
        lines("vectors     ff", "copied      ff   right"),
    ]


def test_repeat_copy():
    written = notation("ntm_repeat_copy", bits=8, repeats=10)
    inputs = written.read(["35 e2 x2", "0f x1"])
    assert inputs["lengths"].tolist() == [8, 4]
    assert inputs["sequence"][0, :2, :8].tolist() == bits_of("35 e2")
    # Repeats of 1 to 10 have a mean of 5.5 and a variance of 8.25.
    np.testing.assert_allclose(inputs["sequence"][0, 2, 8:], [1, -3.5 / 8.25**0.5], 1e-6)
    answer = np.zeros((2, 8, 9), int)
    answer[0, 3:7, :8] = bits_of("35 e2 35 e2")
    answer[0, 7, 8] = 1
    answer[1, 2, :8] = bits_of("0f")[0]
    assert written.show(inputs, sure(answer, (0, 7, 8, 0.8))) == [
        lines(
            "vectors       35    e2    x2",
            "said          35    e2",
            "              35    e2   end   right",
            "unsure         -     -  0.80",
        ),
        lines("vectors         0f      x1", "said            0f  no end   wrong"),
    ]
    answer[0, 4, 8] = answer[0, 7, 0] = 1
    assert written.show(inputs, sure(answer))[0].splitlines()[1:] == [
        "said             35  e2(end)",
        "                 35       e2  80(end)   wrong",
    ]


def test_associative_recall():
    written = notation("ntm_associative_recall", vectors=2, bits=8)
    inputs = written.read(["35.e2 0f.01 33.44 ? 0f.01", "35.e2 ff.ff ?35.e2"])
    assert inputs["lengths"].tolist() == [15, 12]
    assert inputs["sequence"][1, :, 8].nonzero()[0].tolist() == [0, 3]
    assert inputs["sequence"][1, :, 9].nonzero()[0].tolist() == [6, 9]
    shown = bits_of("0 35 e2 0 ff ff 0 35 e2 0 0 0")
    assert inputs["sequence"][1, :12, :8].tolist() == shown
    blank = "0 " * 10
    answers = [bits_of(f"{blank} 0 0 0 33 44"), bits_of(f"{blank} 0f 01 0 0 0")]
    assert written.show(inputs, sure(answers, (1, 10, 0, 0.6))) == [
        lines(
            "items       35.e2  0f.01  33.44",
            "asked       0f.01",
            "recalled    33.44   right",
        ),
        lines(
            "items        35.e2   ff.ff",
            "asked        35.e2",
            "recalled     0f.01   wrong",
            "unsure      0.60 -",
        ),
    ]


def test_ngrams():
    written = notation("ntm_ngrams", context=1)
    inputs = written.read(["0 1 0110", "1"])
    assert inputs["lengths"].tolist() == [7, 2]
    assert inputs["sequence"][0, :, 0].tolist() == [0, 0, 1, 0, 1, 1, 0]
    chance = np.array([[0.5, 0.25, 1.0, 0.0, 0.99, 0.5, 0.8], [0.5, 0.3, 0, 0, 0, 0, 0]])[..., None]
    outputs = {"bits": (chance > 0.5).astype(int), "probability": chance}
    # Twice a 1 followed a 0, a 0 never: (2 + 1/2) / (2 + 1).
    assert written.show(inputs, outputs) == [
        lines("bits      010110", "chance    529095", "next      1 with 0.80, optimal 0.83"),
        lines("bits      1", "chance    5", "next      1 with 0.30, optimal 0.50"),
    ]


def test_priority_sort():
    written = notation("ntm_priority_sort", vectors=3, answers=2)
    inputs = written.read(["0.3:5a -0.7:0f 1:33", "-1:ff"])
    assert inputs["lengths"].tolist() == [6, 3]
    np.testing.assert_allclose(inputs["sequence"][0, :, 8], [0.3, -0.7, 1, 0, 0, 0], 1e-6)
    assert inputs["sequence"][:, :, 9].nonzero()[1].tolist() == [3, 1]
    assert inputs["sequence"][0, :3, :8].tolist() == bits_of("5a 0f 33")
    answers = [bits_of("0 0 0 0 33 5a"), bits_of("0 0 fe 0 0 0")]
    assert written.show(inputs, sure(answers, (0, 5, 7, 0.75))) == [
        lines(
            "vectors       5a    0f    33",
            "priority     0.3  -0.7     1",
            "sorted        33    5a   right",
            "unsure         -  0.75",
        ),
        lines("vectors     ff", "priority    -1", "sorted      fe   wrong"),
    ]


def told_again(name, inputs, row):
    """A row of a task's own batch, as people write it."""
    steps = inputs["sequence"][row, : inputs["lengths"][row]]
    if name == "ntm_ngrams":
        return "".join(f"{bit:.0f}" for bit in steps[1:, 0])
    bits = zoo.task_of(zoo.info(name)).bits
    spelled = ["".join(f"{bit:.0f}" for bit in step[:bits]) for step in steps]
    if name == "ntm_copy":
        return " ".join(spelled[: len(steps) // 2])
    if name == "ntm_repeat_copy":
        count = int(steps[:, -2].argmax())
        return f"{' '.join(spelled[:count])} x{(len(steps) - 2) // count - 1}"
    if name == "ntm_priority_sort":
        count = int(steps[:, -1].argmax())
        return " ".join(f"{float(s[-2])!r}:{word}" for s, word in zip(steps[:count], spelled))
    items = [".".join(spelled[start + 1 : start + 4]) for start in range(0, len(steps) - 4, 4)]
    return f"{' '.join(items[:-1])} ? {items[-1]}"


def numbers_of(task, given):
    """Digits `(batch, time, digits)` of numbers as texts, and how many each has."""
    digits = [[[*map(int, n.ljust(task.digits, "0"))] for n in row] for row in given["numbers"]]
    return np.array(digits), np.vectorize(len)(given["numbers"])


def lay(name, task, given):
    """The inputs of a model, as the task lays what a signature was asked."""
    lengths = given.get("lengths")
    if name == "act_sort":
        return task.lay(given["numbers"], lengths)
    if name == "act_logic":
        return task.lay(given["bits"], given["gates_applied"], lengths)
    if name == "act_addition":
        return task.lay(*numbers_of(task, given), lengths)
    if name == "grid_lstm_memorization":
        symbols = given["symbols"], lengths
        return task.lay(given["symbols"].shape[1], [symbols], symbols)
    digits, count = numbers_of(task, given)
    parts = [(digits[:, i], count[:, i]) for i in (0, 1)]
    return task.lay(task.digits, parts, parts[0])


@pytest.mark.parametrize("name", ["act_parity", "act_logic", "act_addition", "act_sort"])
def test_what_a_model_tells_of_itself_is_handed_on_where_it_is_asked_for(name):
    entry = zoo.info(name)
    task, model = zoo.task_of(entry), zoo.build(name, **entry.small)
    room = importlib.import_module(f"ponderzoo.zoo.signatures.{entry.task}")
    lines = []
    for told in (entry.told, {}):
        serve = room.signatures(model, task, told)["serve"]
        tensors = {key: tf.constant(value) for key, value in serve.sample.items()}
        outputs = {key: value.numpy() for key, value in serve.function(**tensors).items()}
        assert outputs.keys() == serve.outputs.keys()
        assert told.keys() == outputs.keys() & entry.told.keys()
        shown = room.notation(task)["serve"].show(serve.sample, outputs)
        assert all(("updates" in text) == bool(told) for text in shown)
        lines.append("\n".join(shown))
    assert len(lines[1]) < len(lines[0])


def test_what_a_machine_with_memory_tells_of_every_step_is_one_row_a_step():
    task = zoo.task_of(zoo.info("ntm_copy"), bits=3)
    sequence = keras.Input((None, 4), name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    heads = keras.ops.stack([sequence + 1, sequence + 2], axis=2)
    tells = {"heads": heads, "steps": sequence[..., 0] + 5}
    model = keras.Model(
        {"sequence": sequence, "lengths": lengths}, {"bits": sequence[..., :3], **tells}
    )
    serve = signatures(model, task, dict.fromkeys(tells, "what it tells"))["serve"]
    told = serve.function(tf.zeros((2, 6, 4)), tf.constant([6, 4]))
    assert told["heads"].shape == (2, 6, 8) and told["steps"].shape == (2, 6)
    assert told["heads"][0, 0].numpy().tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    assert told["steps"][1].numpy().tolist() == [5, 5, 5, 5, 0, 0]
    assert not told["heads"][1, 4:].numpy().any()


@pytest.mark.parametrize(
    "name",
    ["act_sort", "act_logic", "act_addition", "grid_lstm_memorization", "grid_lstm_addition"],
)
def test_a_signature_lays_what_it_is_asked_as_the_task_does(name):
    entry, seen = zoo.info(name), []
    task, model = zoo.task_of(entry), zoo.build(name, **entry.small)

    def watched(inputs):
        seen.append(inputs)
        return model(inputs)

    room = importlib.import_module(f"ponderzoo.zoo.signatures.{entry.task}")
    serve = room.signatures(watched, task, {})["serve"]
    serve.function(**{key: tf.constant(value) for key, value in serve.sample.items()})
    expected, _ = lay(name, task, serve.sample)
    assert seen[0].keys() == expected.keys()
    for key, value in seen[0].items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize(
    "name",
    ["ntm_copy", "ntm_repeat_copy", "ntm_associative_recall", "ntm_ngrams", "ntm_priority_sort"],
)
def test_what_a_memory_task_asks_can_be_written_and_its_targets_are_right(name):
    task, written = zoo.task_of(zoo.info(name)), notation(name)
    inputs, targets = task.batch(np.random.default_rng(1), 8)
    again = written.read([told_again(name, inputs, row) for row in range(8)])
    assert again["lengths"].tolist() == inputs["lengths"].tolist()
    longest = max(inputs["lengths"])
    np.testing.assert_allclose(again["sequence"], inputs["sequence"][:, :longest], 1e-6)
    shown = written.show(again, sure((targets["bits"][:, :longest] > 0).astype(int)))
    assert not any("wrong" in text or "unsure" in text for text in shown)
    assert all("right" in text for text in shown) != (name == "ntm_ngrams")


def test_long_answers_are_broken():
    written = notation("ntm_copy")
    inputs = written.read([" ".join(["35"] * 30)])
    (shown,) = written.show(inputs, sure(inputs["sequence"][..., :8].astype(int)))
    sizes = [len(line.split()) - 1 for line in shown.splitlines()]
    assert sizes == [17, 17, 13, 14] and shown.endswith("   wrong")
    assert max(map(len, shown.splitlines())) <= 80


def test_long_texts_are_broken():
    shown = over_text(b"x" * 150, {"updates": np.arange(150) % 10}).splitlines()
    assert [len(line) for line in shown] == [80, 80, 80, 80, 20, 20]
    assert "".join(line[10:] for line in shown[1::2]) == "0123456789" * 15
    assert over_text(b"", {"updates": []}) == "text\nupdates"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("act_parity", "1012"),
        ("act_parity", "1" * 65),
        ("act_logic", "1 XOR"),
        ("act_logic", "10 | 10"),
        ("act_logic", "10 IF"),
        ("act_logic", "12"),
        ("act_logic", "10 |"),
        ("act_logic", "10 " + "OR " * 11),
        ("act_addition", "123456"),
        ("act_addition", "1 -2"),
        ("act_addition", "²"),
        ("act_sort", "1,2"),
        ("act_sort", "nan"),
        ("act_sort", "1 " * 16),
        ("act_wikipedia", ""),
        ("ntm_copy", "35 e"),
        ("ntm_copy", "35 0x"),
        ("ntm_copy", "12345678"),
        ("ntm_copy", "35 " * 5001),
        ("ntm_repeat_copy", "35 e2"),
        ("ntm_repeat_copy", "x3"),
        ("ntm_repeat_copy", "35 x0"),
        ("ntm_repeat_copy", "7f x1"),  # more than six bits
        ("ntm_repeat_copy", "35 x99999"),
        ("ntm_associative_recall", "01.02.03 04.05.06"),
        ("ntm_associative_recall", "01.02.03 ? 01.02.03"),
        ("ntm_associative_recall", "01.02.03 04.05.06 ? 04.05.06"),
        ("ntm_associative_recall", "01.02 04.05 ? 01.02"),
        ("ntm_associative_recall", "01.02.03 04.05.06 ? 01.02.03 ?"),
        ("ntm_ngrams", "012"),
        ("ntm_ngrams", " "),
        ("ntm_priority_sort", "5a 0f"),
        ("ntm_priority_sort", "1.5:5a"),
        ("ntm_priority_sort", "nan:5a"),
        ("ntm_priority_sort", "a:5a"),
        ("ntm_priority_sort", "0.5:5"),
    ],
)
def test_what_cannot_be_read_is_said(name, text):
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        notation(name).read([*notation(name).example, text])
    assert str(caught.value).endswith(f"; got {text!r}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "task, output, bit, shape",
    [
        ("parity", "parity", "odd", (3, 1)),
        ("bit_parity", "parity", "odd", (2, 1)),
        ("logic", "truth", "truth", (2, 3)),
        ("copy", "bits", "bits", (2, 41, 8)),
    ],
)
def test_a_bit_is_told_by_the_logit_before_a_sigmoid_rounds_it(task, output, bit, shape):
    """Next to 0 the sigmoid is 0.5 in float32, or a number beside it, as the processor has it."""
    signs = np.resize([1, -1, 0], shape)
    room = importlib.import_module(f"ponderzoo.zoo.signatures.{task}")
    logits = tf.constant(1e-9 * signs, "float32")
    served = room.signatures(lambda inputs: {output: logits}, trainers.task(task), {})["serve"]
    inputs = {key: tf.constant(x) for key, x in served.sample.items()}
    if task == "copy":
        inputs["lengths"] = tf.fill([2], shape[1])
    found = np.reshape(served.function(**inputs)[bit], shape)
    np.testing.assert_array_equal(found, signs > 0)
