"""Screens of Atari games in, actions out."""

from ._acting import notation, signatures

__all__ = ["notation", "signatures"]
