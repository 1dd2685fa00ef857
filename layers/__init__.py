"""The papers' mechanisms as Keras layers, every public class of every public file by its name."""

import importlib
import inspect
import pkgutil

import keras


def _found():
    for file in pkgutil.iter_modules(__path__):
        if not file.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{file.name}")
            for name, thing in inspect.getmembers(module, inspect.isclass):
                if thing.__module__ == module.__name__ and issubclass(thing, keras.layers.Layer):
                    yield name, thing


globals().update(_found())
