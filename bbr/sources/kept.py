"""What a reflector's sink keeps of one collection of the cluster: an entry for each object."""

from collections.abc import Callable
from typing import Generic, TypeVar

from bbr.models.steps import Steps

K = TypeVar("K")


class Kept(Generic[K]):
    """What is known of one collection; a reflector's sink, but for `read`.

    Args:
        changed: called after each change.

    Attributes:
        objects: by namespace/name; None before the first list.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.objects: dict[str, K] | None = None
        self._changed = changed

    def replace(self, kept: dict[str, K]) -> Steps[None]:
        """Take all objects that there are."""
        yield
        self.objects = kept
        self._changed()

    def put(self, key: str, kept: K) -> None:
        """Take an object that is new or has changed."""
        assert self.objects is not None  # noqa: S101 (a watch begins after a list)
        self.objects[key] = kept
        self._changed()

    def remove(self, key: str) -> None:
        """Let an object go."""
        assert self.objects is not None  # noqa: S101 (a watch begins after a list)
        if self.objects.pop(key, None) is not None:
            self._changed()
