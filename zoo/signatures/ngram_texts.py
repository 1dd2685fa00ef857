"""A text in, the characters that a model takes for the most probable ones out."""

from ._text import notation, signatures

__all__ = ["notation", "signatures"]
