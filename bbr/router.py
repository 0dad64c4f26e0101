"""Builds a router from settings: the model table with its sources, and what all exchanges have in common.

The server and the commands both use it, so a command shows what the server would do.
"""

from bbr.config import policies
from bbr.config.settings import Settings
from bbr.exchange.exchange import Exchange
from bbr.sources.sources import Sources


class Router:
    """The parts of a router that need no network of their own.

    Attributes:
        sources: the model table, and what keeps it up to date; nothing is read yet.
        policy: of all exchanges.
    """

    def __init__(self, settings: Settings) -> None:
        self.sources = Sources(settings)
        self.policy = policies.policy(settings)

    def exchange(self) -> Exchange:
        """Return an exchange over the table as it is now, whose times nobody looks at."""
        return Exchange(self.policy, self.sources.table.registry)
