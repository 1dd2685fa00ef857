"""A sum or difference in, its value out."""

from ._text import notation, signatures

__all__ = ["notation", "signatures"]
