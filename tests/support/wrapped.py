"""Something around an exchange. By composition: nobody can inherit from a class that is compiled."""

from typing import Any

from bbr.exchange.exchange import Exchange


class Wrapped:
    """A Handler that does what its exchange does; see bbr.rpc.calls."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.exchange = Exchange(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exchange, name)
