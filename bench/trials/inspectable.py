"""`bbr` that tells what it has: at SIGUSR1 a line on stderr with its asyncio tasks and what it keeps of streams.

The product has no such hook; `python -m bench.trials.inspectable serve ...` is the product with one. Used by
bench.trials.soak.
"""

import asyncio
import gc
import json
import signal
import sys
from types import FrameType
from typing import Final

from bbr import cli
from bbr.exchange.exchange import Exchange
from bbr.http2.streams import Stream
from bbr.rpc.calls import Call
from bbr.transports.uv_connection import UvConnection

PREFIX: Final = "observed "
_KINDS: Final = (Exchange, Call, Stream, UvConnection)


def tell(_number: int, _frame: FrameType | None) -> None:
    """Write the line."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    counts = {kind.__name__: kinds.count(kind) for kind in _KINDS}
    tasks = sorted(task.get_name() for task in asyncio.all_tasks())
    sys.stderr.write(PREFIX + json.dumps({"tasks": tasks, **counts}) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    raise SystemExit(cli.main(sys.argv[1:]))
