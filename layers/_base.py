"""What all layers share."""

import keras


def serializable(cls):
    """Registers a class as `ponderzoo>Name`, as which `.keras` files know it for ever."""
    return keras.saving.register_keras_serializable(package="ponderzoo")(cls)
