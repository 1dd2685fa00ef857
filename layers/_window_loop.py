"""The loop of LSTM cells that look at a text through a soft window, and its gradient."""

from keras import ops

from ._budgeted import budgeted_recurrence
from ._held import Held
from ._recurrent_loop import Cells, entering, product
from ._scan import recurrence


def window_loop(sequence, text, weights, state, steps, clip=0.0, save=True):
    """Runs LSTM cells whose window moves along a text (Graves, 2013, eqs. 46 to 51).

    Args:
        sequence: `(time, batch, features)`.
        text: `(batch, places, symbols)`, zero behind the last place of a row.
        weights: `[kernel (features, 4 * units), bias (4 * units,), recurrent kernel (units +
            symbols, 4 * units), window kernel (units, 3 * K), window bias (3 * K,)]`, and behind
            them, if there are any, peepholes `(3, units)`.
        state: `(h, c, window, kappa)`, `(batch, units)` twice, `(batch, symbols)`, `(batch, K)`;
            their dtype is that of the loop.
        steps, clip, save: as in `recurrent_loop`; the derivatives by what enters the window's
            exponentials are bounded likewise.

    Returns:
        h, c, window and kappa of all steps, `(time, batch, ...)`, and alpha and beta side by side,
        `(time, batch, 2 * K)`.
    """
    rows, weights = _entered(sequence, (weights, text))
    answers = recurrence(_WindowedCells(clip), rows, weights, state, steps, save, jit=True)[0]
    h, c, window, kappa, shape = answers
    return h, c, window, kappa, shape[..., : 2 * kappa.shape[-1]]


def budgeted_window_loop(sequence, text, weights, state, budget, mask=None, clip=0.0):
    """`window_loop` that keeps to a budget of memory.

    Args:
        sequence: `(batch, time, features)`, at least one step.
        text, weights, state, clip: as there.
        budget: bytes.
        mask: `(batch, time)` boolean, False at steps behind the end of a row, or None.

    Returns:
        h, window, kappa, and alpha and beta of all steps, `(batch, time, ...)`; and the state at
        the end of each row.
    """
    rows = sequence, [] if mask is None else [mask]
    cells = Held(_WindowedCells(clip), shown=[0, 2, 3, 4])
    (h, window, kappa, shape), end = budgeted_recurrence(
        cells, rows, (weights, text), state, budget, _entered, axis=1, jit=True
    )
    return (h, window, kappa, shape[..., : 2 * kappa.shape[-1]]), end


def _entered(sequence, weights):
    """What the cells get from the sequence, and what else a step reads."""
    (kernel, bias, recurrent, window_kernel, window_bias, *peepholes), text = weights
    rows = entering(sequence, kernel, bias)
    return rows, ([recurrent, *peepholes], window_kernel, window_bias, text)


def weigh(kappa, shape, places):
    """phi of eq. 46, `(..., places)`, at the places 1, 2, ....

    Args:
        kappa: `(..., K)`.
        shape: `(..., 2 * K)`, alpha and beta.
        places: how many.
    """
    parts, _, _ = _parts(kappa, shape, places)
    return ops.sum(parts, axis=-2)


def _parts(kappa, shape, places):
    """What each component adds, `(..., K, places)`; how far places are from kappa; and beta."""
    alpha, beta = (x[..., None] for x in ops.split(shape, 2, axis=-1))
    off = kappa[..., None] - ops.arange(1, places + 1, dtype=kappa.dtype)
    return alpha * ops.exp(-beta * off * off), off, beta


class _WindowedCells(Cells):
    """A step of them. Everything that the way back needs is answered, but for the gates."""

    def forward(self, weights, row, state):
        cells, kernel, bias, text = weights
        h, c, window, kappa = state
        seen = ops.concatenate([h, window], axis=-1)
        (h, c), _, gates = super().forward(cells, row, (seen, c))
        shape = ops.exp(h @ kernel + bias)
        count = kappa.shape[-1]
        kappa = kappa + shape[..., 2 * count :]
        phi = weigh(kappa, shape[..., : 2 * count], ops.shape(text)[1])
        window = ops.matmul(phi[:, None], text)[:, 0]
        return (h, c, window, kappa), [h, c, window, kappa, shape], gates

    def prepare(self, weights):
        cells, kernel, _, text = weights
        return super().prepare(cells), ops.transpose(kernel), text

    def stored(self, rows, state, answers, gates, d_answers):
        h, c, _, kappa, shape = answers
        (d_h, d_c, *d_others) = d_answers
        _, of_cells = super().stored(rows, state[:2], (h, c), gates, (d_h, d_c))
        return (), (of_cells, kappa, shape, d_others)

    def backward(self, prepared, d_state, _, ahead):
        cells, transposed, text = prepared
        d_h, d_c, d_window, d_kappa = d_state
        of_cells, kappa, shape, (d_window_out, d_kappa_out, d_shape) = ahead
        count = kappa.shape[-1]
        d_window = d_window + d_window_out
        parts, off, beta = _parts(kappa, shape[..., : 2 * count], ops.shape(text)[1])
        d_parts = parts * ops.matmul(text, d_window[..., None])[..., 0][:, None]
        pulled = beta * off * d_parts
        d_kappa = d_kappa + d_kappa_out - 2 * ops.sum(pulled, axis=-1)
        d_hat = [ops.sum(d_parts, axis=-1), -ops.sum(pulled * off, axis=-1)]
        d_hat.append(shape[..., 2 * count :] * d_kappa)
        d_hat = self._clipped(ops.concatenate(d_hat, axis=-1) + shape * d_shape)
        (d_seen, d_c), d_row = super().backward(
            cells, (d_h + d_hat @ transposed, d_c), (), of_cells
        )
        units = d_h.shape[-1]
        d_state = d_seen[:, :units], d_c, d_seen[:, units:], d_kappa
        return d_state, (d_row, d_hat, d_window)

    def gradients(self, weights, rows, state, answers, gates, memo):
        cells, _, _, text = weights
        (h, c, window, kappa), (hs, cs, windows, kappas, shapes) = state, answers
        d_rows, d_hat, d_window = memo
        seen = [ops.concatenate(x, axis=-1) for x in ((h, window), (hs, windows))]
        _, d_cells = super().gradients(cells, rows, (seen[0], c), (seen[1], cs), gates, d_rows)
        phi = weigh(kappas, shapes[..., : 2 * kappa.shape[-1]], ops.shape(text)[1])
        d_text = ops.matmul(ops.transpose(phi, (1, 2, 0)), ops.transpose(d_window, (1, 0, 2)))
        return d_rows, (d_cells, product(hs, d_hat), ops.sum(d_hat, axis=(0, 1)), d_text)
