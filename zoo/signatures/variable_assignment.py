"""Statements and a query in, the value asked for out."""

from ._text import notation, signatures

__all__ = ["notation", "signatures"]
