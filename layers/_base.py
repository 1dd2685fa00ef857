"""What all layers share."""

import keras


def serializable(cls):
    """Registers a class as `ponderzoo>Name`, the name under which `.keras` files know it for ever."""
    return keras.saving.register_keras_serializable(package="ponderzoo")(cls)
