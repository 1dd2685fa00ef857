"""Letters: the next one, what a text costs, how it goes on."""

from .characters import notation, signatures

__all__ = ["notation", "signatures"]
