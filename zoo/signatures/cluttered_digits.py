"""Images in that have a digit somewhere, digits out."""

from ._digits import notation, signatures

__all__ = ["notation", "signatures"]
