"""Signatures as ONNX files, as far as the converter takes them; each is asked first."""

import importlib
import logging
import os

import numpy as np

from ..trainers._files import write_file
from ._gate import difference
from ._package import expected_of

OPSET = 18
LONGEST = 300  # letters of a reason
NEEDED = "onnx", "onnxruntime", "tf2onnx"


def write_onnx(signatures, directory):
    """Writes `<signature>.onnx` for every signature that onnxruntime answers as the model does.

    Inputs and outputs have the names of the signature's. Many models are loops, lists and texts
    that ONNX has no operations for: what cannot be converted, loaded or answered is not written.

    Args:
        signatures: dict: name -> `Signature`.
        directory: where the files go; it is made.

    Returns:
        `(written, refused)`: name -> path, and name -> the reason, one line.

    Raises:
        ImportError: the converter or the runtime is not installed.
    """
    _, runtime, converter = map(_found, NEEDED)
    converter.logging.set_level(logging.CRITICAL)
    written, refused = {}, {}
    for name, signature in signatures.items():
        try:
            content = _converted(converter, signature)
            _check(runtime, content, expected_of({name: signature})[name])
        # The converter and the runtime raise whatever comes up in them.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            refused[name] = reason[:LONGEST]
        else:
            written[name] = os.path.join(directory, f"{name}.onnx")
            write_file(written[name], content)
    return written, refused


def _found(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ONNX needs {name}: pip install 'ponderzoo[onnx]'") from error


def _converted(converter, signature):
    """The bytes of a signature's file."""
    import tensorflow as tf

    names = list(signature.inputs)

    @tf.function
    def ask(*tensors):
        return signature.function(**dict(zip(names, tensors)))

    spec = [tf.TensorSpec(*of, name=name) for name, of in signature.inputs.items()]
    model, _ = converter.convert.from_function(ask, input_signature=spec, opset=OPSET)
    return model.SerializeToString()


def _check(runtime, content, cases):
    """Raises `ValueError` where a file answers otherwise than the model."""
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    known = {node.name for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    inputs, expected = cases[0]
    missing = known - set(inputs)
    if missing:
        raise ValueError(f"it asks for {', '.join(sorted(missing))}, which is no input")
    if sorted(names) != sorted(expected):
        raise ValueError(f"it answers {sorted(names)}, the model {sorted(expected)}")
    for inputs, expected in cases:
        found = session.run(names, {name: inputs[name] for name in known})
        for name, array in zip(names, found):
            if array.dtype == object:  # text, which TensorFlow has as bytes
                array = np.char.encode(array.astype(str)).astype(object)
            said = difference(array, expected[name])
            if said:
                raise ValueError(f"{name} {said}")
