"""The command that asks a server."""

import contextlib
import functools
import json

from ._command import PICTURES, argument, command, import_backend, write_pictures


@command(
    "predict",
    argument(
        "name",
        metavar="NAME-or-RUN",
        help="an entry or a run directory; with --inputs, the name of any model that is served",
    ),
    argument(
        "texts",
        metavar="INPUT",
        nargs="*",
        help="a row as people write it, such as '381 4 99' for act_addition, behind -- where "
        "it begins with -; without any, the entry's example is sent",
    ),
    argument("--address", metavar="HOST:PORT", default="localhost:8500", help="%(default)s"),
    argument("--signature", help="its name (the model's default, or the first that takes INPUT)"),
    argument("--version", type=int, help="version number (the latest)"),
    argument("--label", help="label of a version, in place of its number"),
    argument("--inputs", metavar="JSON", help="a file or text: input name -> list of rows"),
    argument("--json", action="store_true", help="print the outputs as JSON"),
    argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="an input that is a number a row, such as bias=1, where INPUT does not say it",
    ),
    argument(
        "--output",
        metavar="DIR",
        help="where pictures of the answers go, as NAME.svg and NAME.png, and as NAME.gif what was "
        f"made in steps; with several rows as NAME-1.svg and so on ({PICTURES}, of images that "
        "were made)",
    ),
    argument("--certificate", metavar="FILE", help="for TLS: PEM of the authority"),
    place=41,
    needs="",
    intermixed=True,
)
def predict(arguments):
    """Asks a server: numbers, bits, text or audio in, readable answers with the ponder out.

    Inputs that are given as JSON are answered with arrays.
    """
    from .._tensors import to_lists
    from ..client import Client

    name, signature, inputs, show, picture, directory = _question(arguments)
    _change(inputs, arguments.set)
    if arguments.output and not picture:
        raise ValueError(f"{name} answers {signature or 'this'} by text alone: --output has no use")
    version = arguments.version, arguments.label
    with Client(arguments.address, certificate=arguments.certificate) as client:
        if arguments.inputs:
            served = client.metadata(name, *version).get(signature or "serving_default")
            inputs = _typed(inputs, served["inputs"]) if served else inputs
        outputs = client.predict(name, inputs, signature, *version)
    if arguments.json:
        print(json.dumps({key: to_lists(array, key) for key, array in outputs.items()}))
    else:
        print("\n\n".join(show(inputs, outputs)))
    if directory:
        write_pictures(picture(inputs, outputs), directory, name)


def _question(arguments):
    """Names of model and signature, inputs, and functions of inputs and outputs by row.

    The first shows them; the second draws them, and is None where nothing is drawn. Last comes the
    directory of pictures, empty where none are to be written.
    """
    asked = arguments.output or ""
    if arguments.inputs and arguments.texts:
        raise ValueError("predict wants INPUT or --inputs, not both")
    if arguments.inputs:
        inputs = _read_json(arguments.inputs)
        return arguments.name, arguments.signature, inputs, _show_arrays, None, asked
    import_backend("names")
    from ...zoo._trained import Trained

    trained = Trained.find(arguments.name)
    notation = trained.entry.notation(trained.task)
    readable = next(iter(notation), "serve") if arguments.texts else "serve"
    signature = arguments.signature or ("serve" if "serve" in notation else readable)
    if signature in notation:
        chosen = notation[signature]
        inputs = chosen.read(arguments.texts) if arguments.texts else chosen.sample
        usual = PICTURES if chosen.in_pictures and not arguments.json else ""
        return trained.name, signature, inputs, chosen.show, chosen.picture, asked or usual
    chosen = _signature(trained.name, signature)
    if arguments.texts:
        raise ValueError(
            f"{trained.name} takes INPUT for {', '.join(notation) or 'no signature'}; "
            f"write the inputs of {signature!r} as --inputs JSON"
        )
    show = functools.partial(_show_arrays, meanings=chosen.outputs)
    return trained.name, signature, chosen.sample, show, None, asked


def _typed(inputs, served):
    """Inputs of JSON with its whole numbers as floats or bytes, where the server takes such."""
    import numpy as np

    typed = dict(inputs)
    for name in inputs.keys() & served.keys():
        dtype, _ = served[name]
        with contextlib.suppress(TypeError, ValueError):  # the server says what is wrong
            array = np.asarray(inputs[name])
            if array.dtype.kind in "iu" and dtype != "string":
                exact = array.astype(dtype)
                typed[name] = exact if (exact == array).all() else inputs[name]
    return typed


def _change(inputs, pairs):
    """Sets inputs that are a number a row. Raises `ValueError` for others, and for no numbers."""
    import numpy as np

    arrays = {key: np.asarray(value) for key, value in inputs.items()}
    known = [key for key, x in arrays.items() if x.ndim == 1 and x.dtype.kind in "iuf"]
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set wants KEY=VALUE, got {pair!r}")
        if key not in known:
            there = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"no input {key!r} is a number a row; {there}")
        try:
            kind = float if arrays[key].dtype.kind == "f" else int
            inputs[key] = np.full_like(arrays[key], kind(value))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{key} must be of type {kind.__name__}, got {value!r}") from error


def _read_json(text):
    """A dict from JSON text or from a file of it. Raises `ValueError` for anything else."""
    wanted = '--inputs wants JSON, such as {"NAME": [ROW, ROW]}, or a file of it'
    source, content = repr(text[:40]), text
    if not text.lstrip().startswith("{"):
        try:
            with open(text, "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{wanted}; {source} is neither ({reason})") from error
    try:
        inputs = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{wanted}; {source} is no JSON: {error}") from error
    if not isinstance(inputs, dict):
        raise ValueError(f"{wanted}; {source} is JSON, but no object")
    return inputs


def _signature(name, signature):
    """An entry's `Signature`. Raises `ValueError` where it has none of that name."""
    import_backend("all")
    from ... import zoo

    signatures = zoo.info(name).signatures(zoo.build(name), zoo.task_of(zoo.info(name)))
    if signature not in signatures:
        raise ValueError(f"{name} has no signature {signature!r}; it has {list(signatures)}")
    return signatures[signature]


def _show_arrays(inputs, outputs, meanings=()):
    """All arrays of each row, after what the outputs mean."""
    told = [f"{name}: {meanings[name]}" for name in outputs if name in meanings]
    texts = ["\n".join(told)] if told else []
    for number, row in enumerate(zip(*inputs.values(), *outputs.values()), start=1):
        lines = (f"  {name:24} {_short(value)}" for name, value in zip([*inputs, *outputs], row))
        texts.append("\n".join([f"row {number}", *lines]))
    return texts


def _short(value):
    """An array in one line."""
    import numpy as np

    value = np.asarray(value)
    if value.dtype.kind == "O":
        decode = np.vectorize(lambda x: x.decode(errors="replace") if isinstance(x, bytes) else x)
        value = decode(value)[()]
    return np.array2string(value, threshold=24, precision=4, suppress_small=True).replace("\n", "")
