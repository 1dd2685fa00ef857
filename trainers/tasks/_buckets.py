"""Rows of like length, which are padded alike."""

import numpy as np


def grouped(sizes, buckets):
    """Rows in groups by their length.

    Args:
        sizes: `(rows, kinds)` integers; the first kind is the length by which rows are grouped.
        buckets: groups, no more than there are rows.

    Returns:
        List of the row numbers of each group; the group of each row, `(rows,)`; and the largest
        sizes of each group, `(groups, kinds)`.
    """
    sizes = np.asarray(sizes)
    groups = np.array_split(np.argsort(sizes[:, 0], kind="stable"), min(buckets, len(sizes)))
    group_of = np.zeros(len(sizes), int)
    for number, group in enumerate(groups):
        group_of[group] = number
    return groups, group_of, np.array([sizes[group].max(axis=0) for group in groups])


def halved(most, least):
    """`most` or, as long as that is enough for `least`, a half of it, a quarter, ..."""
    half = -(-most // 2)
    return most if half < least or half == most else halved(half, least)
