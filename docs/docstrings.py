"""Reads docstrings for the reference: an extension of Griffe."""

import re

import griffe

CALL = re.compile(r"^( *)Call arguments:\n((?:\1 +.*\n|\n)+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Examples as code, and call arguments as a list."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = read(obj.docstring.value)


def read(text):
    """A docstring as Griffe and Markdown take it."""
    text = re.sub(r"^( *)Example:$", r"\1Examples:", text + "\n", flags=re.MULTILINE)
    return CALL.sub(_as_list, text).rstrip()


def _as_list(found):
    indent = f"{found[1]}    "
    items = re.sub(rf"^{indent}(?=\S)([^:\n]+): ", rf"{indent}- `\1`: ", found[2], flags=re.M)
    return f"{found[1]}Call arguments:\n{items}"
