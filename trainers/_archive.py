"""Reads `.keras` files, which may come from anywhere and may be damaged."""

import warnings
import zipfile

import keras


def read_model(path):
    """The `keras.Model` in a `.keras` file; what runs code of the file's own is refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no model, or not all of its weights; in one line.
    """
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path} is no .keras file, or is cut off")
    try:
        with warnings.catch_warnings():
            # Keras only warns where weights are missing, and leaves those layers untrained.
            warnings.filterwarnings("error", "Skipping|.*freshly-initialized")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path} holds no model that can be loaded ({type(error).__name__}: {text[:300]})"
        ) from error
