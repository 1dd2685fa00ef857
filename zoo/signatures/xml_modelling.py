"""XML up to a closing tag in, the name of the tag out."""

from ._text import notation, signatures

__all__ = ["notation", "signatures"]
