"""Which files of tests run in the same worker of pytest-xdist: those that share what is slow to begin with.

That is what they start, a session's fixture, or what they import. All other files go to whichever worker is free.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, SupportsIndex

from xdist.scheduler import LoadFileScheduling

# A file -> the name of those that go with it. To import the vendors' clients takes a worker five seconds.
TOGETHER: Final = dict.fromkeys(
    (
        "tests/integration/test_anthropic_client.py",
        "tests/integration/test_bodies.py",
        "tests/integration/test_event_streams.py",
        "tests/integration/test_live_models.py",
        "tests/integration/test_openai_client.py",
        "tests/integration/test_vendors_clients.py",
    ),
    "vendors' clients",
)


class Numbered(list[str]):
    """A list of texts that knows where each stands."""

    def __init__(self, texts: Iterable[str]) -> None:
        super().__init__(texts)
        self._places: dict[str, int] = {}
        for place, text in enumerate(self):
            self._places.setdefault(text, place)

    def index(self, value: str, start: SupportsIndex = 0, stop: SupportsIndex = 0) -> int:
        """Return where a text stands first."""
        return self._places[value]


class Together(LoadFileScheduling):
    """As `--dist loadfile`, but for the files of TOGETHER, and without looking through all tests for each of them."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        self._done: set[str] = set()

    def _split_scope(self, nodeid: str) -> str:
        """Return what the test is scheduled as a part of."""
        file: str = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)

    def _pending_of(self, workload: dict[str, dict[str, bool]]) -> int:
        """Return how many tests are left. It is asked for each test, and no test of a file that is done comes again."""
        pending = 0
        for scope, tests in workload.items():
            if scope not in self._done:
                left = list(tests.values()).count(False)
                pending += left
                if not left:
                    self._done.add(scope)
        return pending

    def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
        """Keep what a worker has collected."""
        super().add_node_collection(node, collection)
        if node in self.registered_collections:
            self.registered_collections[node] = Numbered(collection)
