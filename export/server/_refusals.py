"""Refusals with one of gRPC's codes."""

import grpc

from .._session import StatusError


def refuse(code, message):
    """A `StatusError` with one of gRPC's codes."""
    return StatusError(code.value[0], message)


def invalid(message):
    """A `StatusError` of INVALID_ARGUMENT."""
    return refuse(grpc.StatusCode.INVALID_ARGUMENT, message)
