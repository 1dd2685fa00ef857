"""Images in, digits out."""

from ._digits import notation, signatures

__all__ = ["notation", "signatures"]
