"""Numbers in, running sums out."""

import numpy as np

from ._checks import check_lengths
from ._notation import Notation, expected, pad, table, updates, verdict
from ._signature import Signature, handed_on


def signatures(model, task, told):
    """`serve`: numbers as digit strings in, running sums as digit strings out."""
    import tensorflow as tf

    digits = task.digits

    def serve(numbers, lengths):
        check_lengths(lengths, numbers)
        real = tf.sequence_mask(lengths, tf.shape(numbers)[1])
        legal = tf.strings.regex_full_match(numbers, f"[0-9]{{1,{digits}}}")
        tf.debugging.Assert(
            tf.reduce_all(legal | ~real), [f"numbers must be of 1 to {digits} digits, got", numbers]
        )
        numbers = tf.where(real, numbers, "")
        padded = tf.strings.substr(tf.strings.join([numbers, " " * digits]), 0, digits)
        places = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int32) - ord("0")
        shape = tf.shape(numbers)
        sequence = tf.reshape(tf.one_hot(places, 10), (shape[0], shape[1], 10 * digits))
        answer = model({"sequence": sequence, "lengths": lengths})
        written = tf.gather([*"0123456789", ""], tf.argmax(answer["sum"], axis=-1))
        sums = tf.strings.reduce_join(written, axis=-1)
        answered = real & (tf.range(shape[1]) > 0)
        return {"sums": tf.where(answered, sums, ""), **handed_on(answer, told)}

    return {
        "serve": Signature(
            serve,
            {"numbers": ((None, None), "string"), "lengths": ((None,), "int32")},
            notation(task)["serve"].sample,
            {
                "sums": "sum of the numbers so far, as digits, (batch, time); empty at the first",
                **told,
            },
        )
    }


def notation(task):
    """Numbers as `381 4 99` or `381 + 4 + 99`."""

    def read(texts):
        rows = [text.replace("+", " ").split() for text in texts]
        for text, numbers in zip(texts, rows):
            plain = [n.isascii() and n.isdecimal() and len(n) <= task.digits for n in numbers]
            if not plain or not all(plain):
                what = f"numbers of 1 to {task.digits} digits with spaces between, such as '381 4'"
                raise expected(what, text)
        numbers, lengths = pad(rows, "", object)
        return {"numbers": numbers, "lengths": lengths}

    def show(inputs, outputs):
        texts = []
        rows = zip(inputs["numbers"], inputs["lengths"], outputs["sums"])
        for row, (numbers, length, sums) in enumerate(rows):
            numbers, given = list(numbers[:length]), [sum.decode() for sum in sums[1:length]]
            right, width = running_sums(numbers), max(5, *map(len, numbers))
            lines = [
                ("numbers", [numbers[0], *(f"+ {number:>{width}}" for number in numbers[1:])]),
                ("answers", ["", *given], verdict(given == right) if right else ""),
            ]
            lines += [("truth", ["", *right])] if given != right else []
            counts = updates(outputs, row, length)
            texts.append(table([*lines, *([("updates", counts)] if counts else [])]))
        return texts

    return {"serve": Notation(("123 4567 89", "99999 1"), read, show)}


def running_sums(numbers):
    """The sums after each number but the first, as digits; so are the numbers."""
    sums = np.cumsum([int(number) for number in numbers], dtype=object)
    return [str(total) for total in sums[1:]]
