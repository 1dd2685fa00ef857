"""What people write to the entries, and what they read."""

import numpy as np
import pytest
from ponderzoo import zoo
from ponderzoo.zoo._notation import over_text


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
    ],
)
def test_what_cannot_be_read_is_said(name, text):
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        notation(name).read([*notation(name).example, text])
    assert str(caught.value).endswith(f"; got {text!r}")
