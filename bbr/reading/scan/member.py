"""The `model` of a document's root: what its keys and its value say, as they come.

Pure. Offsets are those of the document.
"""

from typing import Final

import orjson

from bbr import refusal
from bbr.reading import name as model
from bbr.refusal import Refusal

_TYPES: Final = {
    ord("["): "an array",
    ord("{"): "an object",
    ord("t"): "a boolean",
    ord("f"): "a boolean",
    ord("n"): "null",
}


class ModelMember:
    """What is known of it.

    Args:
        max_model_bytes: a longer name is refused.

    Attributes:
        known: None as long as there is none, its value, or the refusal that it calls for.
        keys: how many keys there were that are `model` for some parsers at least.
        value_offset: where its value begins, once it has begun.
        text: the inside of its string while that is being scanned, as far as it has come.
    """

    __slots__ = ("_max_model_bytes", "keys", "known", "text", "value_offset")

    def __init__(self, max_model_bytes: int) -> None:
        self._max_model_bytes = max_model_bytes
        self.known: str | Refusal | None = None
        self.keys = 0
        self.value_offset = 0
        self.text: bytearray | None = None

    def add_key(self, key: bytes, offset: int) -> bool:
        """Take note of a key, in quotes or up to a NUL in it, and tell whether its value is the model."""
        self.keys += 1
        exact = key.endswith(b'"') and orjson.loads(key) == "model"
        if self.keys == 2:
            self.known = refusal.model_duplicate().at(offset)
        elif self.keys == 1 and not exact:
            self.known = refusal.model_spelling().at(offset)
        return exact and self.keys == 1

    def open_text(self) -> None:
        """Begin its string."""
        self.text = bytearray()

    def keep(self, kept: bytearray, text: bytes) -> None:
        """Keep a part of its string, unless that is too long even if it is all escapes, six bytes for one."""
        kept += text
        if len(kept) > 6 * self._max_model_bytes:
            self.known = refusal.model_too_long(None, self._max_model_bytes).at(self.value_offset)
            self.text = None

    def close_text(self, kept: bytearray) -> None:
        """End its string."""
        self.text = None
        try:
            self.known = model.check_model(orjson.loads(b'"%b"' % bytes(kept)), self._max_model_bytes)
        except Refusal as refused:
            self.known = refused.at(self.value_offset)

    def refuse_type(self, first: int) -> None:
        """Refuse a value that is no string, by its first byte."""
        self.known = refusal.model_not_string(_TYPES.get(first, "a number")).at(self.value_offset)
