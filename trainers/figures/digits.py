"""Pictures of digits and of the answers to them.

Every function returns a matplotlib `Figure` drawn by Agg: `savefig` needs no display.
"""

import numpy as np

from ._panels import COLOURS, GREY, subplots

WRONG = COLOURS[1]


def grid(images, digits, answers, lines=5, columns=16):
    """The first images side by side, the answer under each.

    A wrong answer is framed, and the truth stands before it.

    Args:
        images: `(count, height, width)`, 0 (paper) to 1 (ink).
        digits: `(count,)`, the truth.
        answers: `(count,)`.
        lines, columns: how many images are shown at most, down and across.
    """
    count = min(len(images), lines * columns)
    lines, (height, width) = -(-count // columns), images.shape[1:]
    figure, (panel,) = subplots(size=(0.6 * columns, 0.78 * lines + 0.1))
    panel.axis("off")
    for place in range(count):
        left, top = (1 + 0.15) * (place % columns), (1 + 0.5) * (place // columns)
        box = (left, left + 1, top + height / width, top)
        panel.imshow(1 - images[place], cmap="gray", vmin=0, vmax=1, extent=box)
        is_wrong = digits[place] != answers[place]
        said = f"{digits[place]} → {answers[place]}" if is_wrong else f"{answers[place]}"
        style = {"color": WRONG, "weight": "bold"} if is_wrong else {"color": GREY}
        panel.text(left + 0.5, top + 1.22, said, ha="center", va="center", fontsize=9, **style)
        if is_wrong:
            panel.plot(np.take(box, [0, 1, 1, 0, 0]), np.take(box, [3, 3, 2, 2, 3]), color=WRONG)
    panel.set(xlim=(-0.1, 1.15 * columns), ylim=(1.5 * lines, -0.1), aspect="equal")
    return figure


def confusion(digits, answers, classes=10):
    """How often each digit, a row, got each answer, a column; mistakes are coloured.

    Args:
        digits: `(count,)`, the truth.
        answers: `(count,)`.
        classes: how many digits there are.
    """
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (digits, answers), 1)
    mistakes = counts * ~np.eye(classes, dtype=bool)
    figure, (panel,) = subplots(size=(6, 5))
    panel.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(1, 1.5 * mistakes.max()))
    for truth, answer in np.argwhere(counts):
        colour = GREY if truth == answer else "black"
        panel.text(
            answer, truth, counts[truth, answer], ha="center", va="center", color=colour, fontsize=9
        )
    panel.grid(False)
    panel.set(xlabel="answer", ylabel="digit", xticks=range(classes), yticks=range(classes))
    panel.set_title(f"{mistakes.sum():,} of {len(digits):,} wrong", fontsize=10)
    return figure
