"""Whether this process takes new requests: what both transports tell health checks."""

import asyncio


class Serving:
    """Whether this process takes new requests, for health checks and for those who watch it."""

    def __init__(self) -> None:
        self.now = True
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Answer NOT_SERVING from now on, and tell the watchers."""
        self.now = False
        self._changed.set()

    async def stopped(self) -> None:
        """Return once `stop` was called."""
        await self._changed.wait()
