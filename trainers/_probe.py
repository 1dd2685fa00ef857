"""What a linear classifier tells of codes: how much of the classes lies open in them."""

import keras
import numpy as np

UPDATES, BATCH = 1500, 500


def linear_probe_error(codes, classes, test_codes, test_classes):
    """The share of test codes whose class a softmax regression of the others does not tell.

    Args:
        codes, test_codes: `(count, size)`.
        classes, test_classes: `(count,)`, whole numbers.
    """
    names = np.unique(np.concatenate([classes, test_classes]))
    normal = keras.layers.Normalization()
    normal.adapt(np.asarray(codes, "float32"))
    softmax = keras.layers.Dense(len(names), kernel_initializer="zeros")
    probe = keras.Sequential([normal, softmax])
    rate = keras.optimizers.schedules.CosineDecay(0.02, UPDATES)
    probe.compile(
        keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    targets = np.searchsorted(names, classes)
    order = np.arange(UPDATES * BATCH) % len(codes)
    probe.fit(codes[order], targets[order], batch_size=BATCH, shuffle=False, verbose=0)
    found = probe.predict(test_codes, batch_size=BATCH, verbose=0).argmax(axis=1)
    return float(np.mean(names[found] != test_classes))


def principal_components(images, test_images, count):
    """Both projected to the first so many principal components of the former, `(n, count)`.

    Args:
        images, test_images: `(n, ...)`.
        count: of components.
    """
    flat, test = (np.reshape(x, (len(x), -1)).astype("float32") for x in (images, test_images))
    mean = flat.mean(axis=0)
    _, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean))
    return tuple((x - mean) @ vectors[:, ::-1][:, :count] for x in (flat, test))
