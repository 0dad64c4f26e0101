"""Tell whether a stand-in on loopback is ready, by its exit status: `python -m deploy.local.ready http|grpc PORT`.

The health check of docker-compose.yaml, by the stack's own probes.
"""

import asyncio
import sys

from deploy.local.part import grpc_probe, http_probe


def main() -> int:
    """Probe once; return 0 if the part is ready, else 1."""
    kind, port = sys.argv[1:]
    probe = grpc_probe(int(port)) if kind == "grpc" else http_probe(int(port), "/health")
    return 0 if asyncio.run(probe()) else 1


if __name__ == "__main__":
    sys.exit(main())
