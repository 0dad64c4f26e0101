"""How many connections the process may have open: its limit of file descriptors."""

import resource
from typing import Final

# Beside the gateways' connections: those of the health and the admin port, and so many more on each for a moment, while
# they come and go; listeners, logs, files that are read, the event loop's own.
HEALTH_CONNECTIONS: Final = 256
ADMIN_CONNECTIONS: Final = 64
SPARE_CONNECTIONS: Final = 128
_RESERVED: Final = 64 + HEALTH_CONNECTIONS + ADMIN_CONNECTIONS + 2 * SPARE_CONNECTIONS


def connections_allowed(wanted: int) -> int:
    """Return how many of `wanted` connections fit into the limit of open files, which is raised first if it is too low.

    A listener that runs out of file descriptors must turn away whoever comes next, gateways and health checks alike.
    """
    needed = wanted + _RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _below(soft, needed):
        raised = needed if hard == resource.RLIM_INFINITY else hard
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError):  # a system may have a maximum of its own
            raised = soft
        soft = raised
    return max(1, soft - _RESERVED) if _below(soft, needed) else wanted


def _below(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
