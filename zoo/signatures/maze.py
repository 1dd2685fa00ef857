"""Frames of mazes in, actions out."""

from ._acting import notation, signatures

__all__ = ["notation", "signatures"]
