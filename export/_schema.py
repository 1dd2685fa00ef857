"""The text files of TensorFlow Serving whose message classes no Python package brings.

Their fields are declared here and become real message classes, so that protobuf's own parser reads
and writes the files. Field numbers are ours: the files are text, where only names count.
"""

import functools
import math

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

_WRAPPED = {
    "int64": ".google.protobuf.Int64Value",
    "bool": ".google.protobuf.BoolValue",
    "string": ".google.protobuf.StringValue",
}
_SCHEMA = {
    # tensorflow_serving/servables/tensorflow/session_bundle_config.proto
    "BatchingParameters": {
        "max_batch_size": "wrapped int64",
        "batch_timeout_micros": "wrapped int64",
        "max_enqueued_batches": "wrapped int64",
        "num_batch_threads": "wrapped int64",
        "thread_pool_name": "wrapped string",
        "allowed_batch_sizes": "repeated int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "wrapped bool",
        "max_execution_batch_size": "wrapped int64",
    },
    # tensorflow_serving/config/monitoring_config.proto
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    # tensorflow_serving/config/ssl_config.proto
    "SSLConfig": {
        "server_key": "string",
        "server_cert": "string",
        "custom_ca": "string",
        "client_verify": "bool",
    },
}


@functools.cache
def _classes():
    file = descriptor_pb2.FileDescriptorProto(
        name="ponderzoo/serving_texts.proto", package="ponderzoo", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            how, _, plain = kind.rpartition(" ")
            label = kinds.LABEL_REPEATED if how == "repeated" else kinds.LABEL_OPTIONAL
            one = message.field.add(name=field, number=number, label=label)
            if how == "wrapped" or plain in _SCHEMA:
                one.type = kinds.TYPE_MESSAGE
                one.type_name = _WRAPPED[plain] if how else f".ponderzoo.{plain}"
            else:
                one.type = getattr(kinds, f"TYPE_{plain.upper()}")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ponderzoo.{name}"))
        for name in _SCHEMA
    }


def BatchingParameters(**fields):
    """The content of a `batching_params.pbtxt`; wrapped numbers are read as `.field.value`."""
    return _classes()["BatchingParameters"](**fields)


def MonitoringConfig(**fields):
    """The content of a `--monitoring_config_file`."""
    return _classes()["MonitoringConfig"](**fields)


def SSLConfig(**fields):
    """The content of an `--ssl_config_file`; PEM texts stand in the file itself."""
    return _classes()["SSLConfig"](**fields)


def write_text(message):
    """The file's text."""
    return text_format.MessageToString(message)


def read_text(path, message):
    """Fills `message` from a text file and returns it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of that kind, with the line and column of the first mistake.
    """
    kind = type(message).__name__
    try:
        with open(path, encoding="utf-8") as file:
            return text_format.Parse(file.read(), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no {kind}: {error}") from error


MOST_THREADS = 1024
LONGEST_WAIT = 60_000_000  # microseconds

_LIMITS = {
    "max_batch_size": (1000, 1, math.inf),
    "max_execution_batch_size": (None, 1, math.inf),
    "num_batch_threads": (2, 1, MOST_THREADS),
    "max_enqueued_batches": (10, 1, math.inf),
    "batch_timeout_micros": (0, 0, LONGEST_WAIT),
}
"""What stands for a number that is not given; the least that it may be, and the most."""


def broken_rules(parameters):
    """What no server takes in `BatchingParameters`: pairs of the rule, and how to mend it."""
    largest = largest_run(parameters)
    for field, (_, least, most) in _LIMITS.items():
        number = number_of(parameters, field)
        if number is not None and not least <= number <= most:
            range_of = f"{least} or more" if most == math.inf else f"{least} to {most}"
            yield f"{field} must be {range_of}, it is {number}", "write such a number"
    sizes = list(parameters.allowed_batch_sizes)
    if sizes != sorted({size for size in sizes if size > 0}):
        rule = f"allowed_batch_sizes must be whole numbers that rise, they are {sizes}"
        yield rule, "write them in order, each once"
    most = number_of(parameters, largest)
    if sizes and sizes[-1] != most:
        rule = f"the last of allowed_batch_sizes must be {largest}, {most}, it is {sizes[-1]}"
        yield rule, "give both the same number"


def largest_run(parameters):
    """The field of `BatchingParameters` that tells how many rows run at once."""
    splits = parameters.enable_large_batch_splitting.value
    given = parameters.HasField("max_execution_batch_size")
    return "max_execution_batch_size" if splits and given else "max_batch_size"


def number_of(parameters, field):
    """The number of a field of `BatchingParameters`, or what stands for it; None for neither."""
    if parameters.HasField(field):
        return getattr(parameters, field).value
    return _LIMITS[field][0]
