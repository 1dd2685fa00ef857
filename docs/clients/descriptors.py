"""Writes the messages of TensorFlow Serving's API as a descriptor set, which other languages read.

`python descriptors.py serving.pb`; needs the package `tensorflow-serving-api`.
"""

import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tensorflow_serving.apis import prediction_service_pb2


def collect(file, found):
    """Adds a file behind all that it imports."""
    for needed in file.dependencies:
        collect(needed, found)
    found.setdefault(file.name, file)


files = {}
collect(prediction_service_pb2.DESCRIPTOR, files)
descriptors = FileDescriptorSet()
for file in files.values():
    file.CopyToProto(descriptors.file.add())
with open(sys.argv[1], "wb") as output:
    output.write(descriptors.SerializeToString())
