"""Refusals with one of gRPC's codes, and who they are told."""

import threading
import time

from .._session import StatusError

_CANCELLED, _INVALID_ARGUMENT, _DEADLINE_EXCEEDED = 1, 3, 4


def refuse(code, message):
    """A `StatusError` with one of gRPC's codes."""
    return StatusError(code.value[0], message)


def invalid(message):
    """A `StatusError` of INVALID_ARGUMENT."""
    return StatusError(_INVALID_ARGUMENT, message)


class Caller:
    """Who waits for an answer: until when, and whether at all.

    Args:
        timeout: seconds, or None for one who waits for ever.
    """

    def __init__(self, timeout=None):
        self._end = None if timeout is None else time.monotonic() + timeout
        self._lock, self._gone, self._calls = threading.Lock(), False, []

    def left(self):
        """Seconds that are left, or None.

        Raises:
            StatusError: the time is over, or the caller has left.
        """
        if self._gone:
            raise StatusError(_CANCELLED, "the caller has left")
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise StatusError(_DEADLINE_EXCEEDED, "the time is over")
        return left

    def leave(self):
        """Tells that nobody waits any more."""
        with self._lock:
            self._gone, calls, self._calls = True, self._calls, []
        for call in calls:
            call()

    def on_leave(self, call):
        """Calls a function without arguments when the caller leaves, at once if that has been."""
        with self._lock:
            if not self._gone:
                self._calls.append(call)
                return
        call()
