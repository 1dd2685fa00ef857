"""Words that the tasks share when they describe a row."""

import numpy as np

PER_STEP = {"ponder_per_step": "Updates N and remainder R at every step of one row."}


def probability(logit):
    """The sigmoid, without overflow."""
    return float(0.5 * (1 + np.tanh(logit / 2)))


def after(outputs, row, steps=None):
    """The updates N of a row's first `steps` steps in words; nothing where the model gives none."""
    if "updates" not in outputs:
        return ""
    updates = [round(float(n)) for n in np.asarray(outputs["updates"][row])[:steps]]
    plural = "" if updates == [1] else "s"
    return f" after {', '.join(map(str, updates))} step{plural}"


def verdict(wrong, scored):
    """How many of the scored answers are wrong, in words."""
    if not scored:
        return ""
    return f" ({wrong} of {scored} wrong)" if wrong else " (ok)"


def odd_or_even(parity):
    """The word for 1 or 0, or for the logit of 1."""
    return "odd" if parity > 0 else "even"
