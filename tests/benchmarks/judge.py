"""How often a classifier of its own sees the digit that an image was made of.

A small network of convolutions learns MNIST's digits, binarised anew whenever they are seen, in a
minute or two, and its error on the test split is told. Then it looks at images that an entry or a
run by class makes at a temperature of 1, as many of each digit.
"""

import argparse
import os

PARSER = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
PARSER.add_argument("name", nargs="?", default="pixelcnn_classes", help="an entry or a run")
PARSER.add_argument("--images", type=int, default=100, help="of each digit")
PARSER.add_argument("--updates", type=int, default=2000, help="of the classifier")
PARSER.add_argument("--temperature", type=float, default=1.0)
FLAGS = PARSER.parse_args()

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from ponderzoo.trainers.tasks import labelled_digits  # noqa: E402
from ponderzoo.zoo._trained import Trained  # noqa: E402

BATCH, AT_ONCE = 64, 100


def judge_of(task):
    """The classifier, and its error on the test split."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(labelled_digits.CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, FLAGS.updates)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    stream = task.dataset("train", BATCH, FLAGS.updates, seed=1)
    for number in range(FLAGS.updates):
        inputs, _ = stream[number]
        model.train_on_batch(inputs["image"], inputs["digit"])
    inputs, _ = task.rows(np.arange(task.examples("test")), "test")
    return model, 1 - model.evaluate(inputs["image"], inputs["digit"], 500, verbose=0)[1]


def main():
    keras.utils.set_random_seed(1)
    trained = Trained.find(FLAGS.name)
    model, task = trained.load(), trained.task
    generate = trained.entry.signatures(model, task)["generate"].function
    digit = np.repeat(np.arange(labelled_digits.CLASSES), FLAGS.images).astype("int32")
    seed = np.arange(len(digit), dtype="int32")
    heat = np.full(AT_ONCE, FLAGS.temperature, "float32")
    made = tf.function(
        lambda digit, seed: generate(digit=digit, seed=seed, temperature=heat)["image"],
        autograph=False,
    )
    images = []
    for start in range(0, len(digit), AT_ONCE):
        places = np.arange(start, start + AT_ONCE) % len(digit)
        images.append(made(tf.constant(digit[places]), tf.constant(seed[places])).numpy())
    images = np.concatenate(images)[: len(digit)]
    judge, error = judge_of(task)
    right = judge.predict(images, 500, verbose=0).argmax(axis=-1) == digit
    print(f"classifier   {100 * error:.2f} % wrong on the {task.examples('test'):,} test images")
    print(f"recognised   {100 * right.mean():.1f} % of {len(digit):,} images of {FLAGS.name}")
    for number in range(labelled_digits.CLASSES):
        print(f"  {number}          {100 * right[digit == number].mean():.0f} %")


if __name__ == "__main__":
    main()
