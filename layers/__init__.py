"""The papers' mechanisms as Keras layers, every public class of every public file by its name."""

import importlib
import inspect
import pkgutil

import keras

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        _found = importlib.import_module(f"{__name__}.{_module.name}")
        for _name, _object in inspect.getmembers(_found, inspect.isclass):
            if _object.__module__ == _found.__name__ and issubclass(_object, keras.layers.Layer):
                globals()[_name] = _object
