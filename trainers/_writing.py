"""Networks of handwriting at work: point by point, through their states."""

import functools

import numpy as np
from keras import ops

from ..layers import _backend as backend
from ..layers import _chance
from ..layers.mixture_density import mixture_sample


def runner(model):
    """A network of handwriting as a function that goes on where it was.

    The layers of a model are `density` and either `network`, or, where it reads a text, `symbols`,
    `layer_0` with the window, `layer_1` and so on; noise on the weights may be around each.

    Returns:
        `run(points (batch, time, 3), symbols (batch, characters), mask (batch, time) or None, list
        of states or None)`, which gives the parameters of the densities of the next points `(batch,
        time, 6 * M + 1)`, the window's weights `(batch, time, characters + 1)`, zeros `(batch,
        time, 1)` where there is none, and the list of states behind the last real point.
    """
    layers = {
        layer.name.removesuffix("_noise"): getattr(layer, "layer", layer) for layer in model.layers
    }
    density = layers["density"]
    if "network" in layers:

        def run(points, symbols, mask, states):
            hidden, *states = layers["network"](points, mask=mask, initial_state=states)
            return density(hidden), ops.zeros_like(hidden[..., :1]), states

        return run
    cells = [layers[f"layer_{i}"] for i in range(sum(x.startswith("layer_") for x in layers))]

    def run(points, symbols, mask, states):
        before = iter(states or ())

        def of(count):
            return [next(before) for _ in range(count)] if states else None

        below, seen, window, *after = cells[0](
            points, layers["symbols"](symbols), sequence_mask=mask, initial_state=of(4)
        )
        outputs = [below]
        for layer in cells[1:]:
            inputs = ops.concatenate([points, below, seen], axis=-1)
            below, *state = layer(inputs, mask=mask, initial_state=of(2))
            outputs.append(below)
            after += state
        return density(ops.concatenate(outputs, axis=-1)), window, after

    return run


def write(run, symbols, characters, bias, seed, most, longest, prime, lengths):
    """Goes on with lines (Graves, 2013, sections 5.3 to 5.6), their offsets normalised.

    A line ends where the window weighs the place behind the text more than any in it. Works in
    graphs and without.

    Args:
        run: as `runner` gives it.
        symbols: `(batch, places)` int32, 0 behind a row's last.
        characters: `(batch,)` int32, how many symbols are a row's own; -1 where there is no text,
            and no such end.
        bias: `(batch,)`, b of eqs. 61 and 62.
        seed: `(batch,)` integers, the chance of each line.
        most: `(batch,)` int32, the limit of points of each line; `longest` is the largest of them.
        prime: `(batch, time, 3)`, the points to go on with, and `lengths` `(batch,)` how many of
            them are real.

    Returns:
        Points `(batch, n, 3)`, 0, 0, -1 behind the last of a row, where n is how many the longest
        row has; the window's weights when each was drawn, `(batch, n, places + 1)`; and whether
        each line ended before its limit, `(batch,)`.
    """
    steps = ops.arange(ops.shape(prime)[1] + 1, dtype="int32")
    mask = steps < lengths[:, None] + 1
    read = ops.where(mask[..., None], ops.pad(prime, ((0, 0), (1, 0), (0, 0))), 0.0)
    parameters, window, states = run(read, symbols, mask, None)
    parameters, window = (backend.taken(x, lengths[:, None])[:, 0] for x in (parameters, window))
    of_choice, of_place = _chance.fold(seed, "choice"), _chance.fold(seed, "place")
    places = ops.arange(ops.shape(window)[1], dtype="int32")[None]
    within, behind = places < characters[:, None], places == characters[:, None]

    def leaves(window):
        """Whether the window is behind the text."""
        inside = ops.max(ops.where(within, window, -1.0), axis=1)
        return ops.max(ops.where(behind, window, -1.0), axis=1) > inside

    def lives(i, ended):
        return ops.logical_and(ops.logical_not(ended), i < most)

    def body(i, parameters, window, ended, states, buffers):
        uniforms = _chance.uniform(of_choice, (2,), 2 * i, "float32")
        normals = _chance.normal(of_place, (2,), 2 * i, "float32")
        point = mixture_sample(parameters, uniforms, normals, bias)
        live = lives(i, ended)
        nothing = ops.convert_to_tensor([0.0, 0.0, -1.0])
        drawn = [ops.where(live[:, None], point, nothing), ops.where(live[:, None], window, 0.0)]
        buffers = backend.write_all(buffers, i, drawn)
        parameters, window, states = run(point[:, None], symbols, None, states)
        parameters, window = parameters[:, 0], window[:, 0]
        ended = ops.logical_or(ended, ops.logical_and(live, leaves(window)))
        return i + 1, parameters, window, ended, states, buffers

    # A place more than is needed, so that where nothing is drawn there is something to stack.
    first = [read[:, 0], window]
    buffers = [backend.buffer(longest + 1, x) for x in first]
    buffers = backend.write_all(buffers, longest, first)
    count, _, _, ended, _, buffers = ops.while_loop(
        lambda i, _, __, ended, *___: ops.any(lives(i, ended)),
        body,
        (0, parameters, window, leaves(window), states, buffers),
    )
    points, window = (ops.transpose(backend.stack(x)[:count], (1, 0, 2)) for x in buffers)
    return points, window, ended


def written(model, texts, bias, seed, most, primes=None):
    """Lines that a network writes, all at once.

    Args:
        model: as `runner` takes it.
        texts: list of arrays of symbols; behind those of the primes, where there are any.
        bias: a number for all of them.
        seed: of the first line; the others have the numbers behind it.
        most: the limit of points of each line.
        primes: list of normalised points `(points, 3)` to go on with, not repeated.

    Returns:
        A list of normalised points `(points, 3)`, and whether each line ended before its limit,
        `(lines,)`.
    """
    count = len(texts)
    primes = [np.zeros((0, 3))] * count if primes is None else primes
    symbols, characters = _padded([np.reshape(text, -1) for text in texts], "int32")
    prime, lengths = _padded(primes, "float32")
    most = np.asarray(most, "int32")
    longest = int(most.max(initial=0))
    biases, seeds = np.full(count, bias, "float32"), np.arange(seed, seed + count, dtype="int32")
    given = symbols, characters, biases, seeds, most, longest, prime, lengths
    points, _, ended = backend.traced(functools.partial(write, runner(model)))(*given)
    points = np.asarray(ops.convert_to_numpy(points))
    rows = [row[row[:, 2] >= 0] for row in points]
    return rows, np.asarray(ops.convert_to_numpy(ended))


def _padded(rows, dtype):
    lengths = np.array([len(row) for row in rows], "int32")
    found = np.zeros((len(rows), lengths.max(initial=0), *np.shape(rows[0])[1:]), dtype)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found, lengths
