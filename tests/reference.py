"""Adaptive Computation Time read plainly from the paper's equations, in float64, one row at a time.

The gradient is TensorFlow's own, of the unrolled eager computation: N and the stopping test are
Python values, so they are constants for it, as the paper has it (section 2.1).
"""

import numpy as np
import tensorflow as tf


def lstm(weights, x, state):
    kernel, recurrent, bias = weights
    h, c = state
    z = x @ kernel + h @ recurrent + bias
    i, f, g, o = tf.split(z, 4, axis=-1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    h = tf.sigmoid(o) * tf.tanh(c)
    return h, [h, c]


def gru(weights, x, state):
    """Keras's `reset_after` variant."""
    kernel, recurrent, bias = weights
    (h,) = state
    xz, xr, xh = tf.split(x @ kernel + bias[0], 3, axis=-1)
    hz, hr, hh = tf.split(h @ recurrent + bias[1], 3, axis=-1)
    z, r = tf.sigmoid(xz + hz), tf.sigmoid(xr + hr)
    h = z * h + (1 - z) * tf.tanh(xh + r * hh)
    return h, [h]


def simple_rnn(weights, x, state):
    kernel, recurrent, bias = weights
    h = tf.tanh(x @ kernel + state[0] @ recurrent + bias)
    return h, [h]


def act(cell, weights, halting, sequence, state, max_ponder, epsilon, lengths=None):
    """Equations 4 to 13, a row and an update at a time.

    Returns:
        outputs `(batch, time, units)`, states, N and R `(batch, time)`; steps past a row's length
        are zero.
    """
    kernel, bias = halting
    batch, steps, _ = sequence.shape
    outputs, updates, remainders, finals = [], [], [], []
    for b in range(batch):
        s = [x[b : b + 1] for x in state]
        row_outputs, row_updates, row_remainders = [], [], []
        for t in range(steps if lengths is None else lengths[b]):
            total, n, p_sum = tf.constant(0.0, tf.float64), 0, 0.0
            averages, answer, now = None, None, s
            while True:
                n += 1
                flag = tf.constant([[1.0 if n == 1 else 0.0]], tf.float64)
                y, now = cell(weights, tf.concat([sequence[b : b + 1, t], flag], axis=-1), now)
                h = tf.sigmoid(y @ kernel + bias)[0, 0]
                stops = float(total + h) >= 1 - epsilon or n == max_ponder
                p = 1 - total if stops else h
                p_sum += float(p)
                scaled = [p * x for x in now]
                averages = scaled if averages is None else [a + x for a, x in zip(averages, scaled)]
                answer = p * y if answer is None else answer + p * y
                if stops:
                    break
                total += h
            assert abs(p_sum - 1) < 1e-12
            s = averages
            row_outputs.append(answer[0])
            row_updates.append(n)
            row_remainders.append(p)
        missing = steps - len(row_outputs)
        zero = tf.zeros_like(sequence[b, 0, :1])
        units = kernel.shape[0]
        outputs.append(tf.stack(row_outputs + [tf.tile(zero, [units])] * missing))
        updates.append(row_updates + [0] * missing)
        remainders.append(tf.stack(row_remainders + [zero[0]] * missing))
        finals.append(s)
    finals = [tf.concat(parts, axis=0) for parts in zip(*finals)]
    return tf.stack(outputs), finals, np.array(updates), tf.stack(remainders)
