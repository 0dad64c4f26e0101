"""Every other router that is built here, as peers of a benchmark (bench.harness.peer).

    python -m bench.harness.rivals -- COMMAND...

Go v1.5.0                 GIE's router, one process for each body mode (bench.harness.go_router)
Go v1.5.0, 2 processors   the same with both processors; full duplex
Go v1.5.0 over TLS        under the same name, in the cases over TLS
IPP v0.1.0                llm-d's inference payload processor, GIE's successor; full duplex
the limit                 a lean server in Rust, which leaves out what a router needs (bench.harness.limit)

What is not built, or does not start, is left out, and a line says so.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Final

from bench.harness import go_router, limit
from bench.harness.fake_kubernetes import BBR, IPP
from bench.harness.figures import COMMAND_VARIABLE
from bench.harness.go_router import GoRouterError, Way
from bench.harness.limit import LimitError
from bench.harness.peer import Peer

IPP_NAME: Final = f"IPP {go_router.IPP.version}"

# Label of the table's ConfigMap -> the processes that read it.
_WAYS: Final = {
    BBR: (
        Way(go_router.NAME),
        Way(go_router.NAME, streaming=False),
        Way(f"{go_router.NAME}, 2 processors", processors=2),
        Way(go_router.NAME, tls=True),
    ),
    IPP: (Way(IPP_NAME, go_router.IPP),),
}


@contextmanager
def running(names: Sequence[str] = ()) -> Iterator[list[Peer]]:
    """Run those of some names, or all of them."""
    with ExitStack() as stack:
        found: list[Peer] = []

        def add(name: str, start: Callable[[], AbstractContextManager[Peer]]) -> None:
            if names and name not in names:
                return
            try:
                found.append(stack.enter_context(start()))
            except (GoRouterError, LimitError) as error:
                print(f"The figures are without {name}: {error}", file=sys.stderr, flush=True)

        for label, ways in _WAYS.items():
            kube_config = stack.enter_context(go_router.api_server(label=label))
            for way in ways:
                add(way.name, partial(go_router.process, kube_config, way))
        add(limit.NAME, limit.running)
        yield found


def main(words: list[str] | None = None) -> int:
    """Run a command beside all of them; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.harness.rivals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help="a benchmark that takes peers")
    command: list[str] = parser.parse_args(words).command
    shown = [word for word in command if not word.startswith("--json=")]
    said = shlex.join(["python", "-m", "bench.harness.rivals", "--", *shown])
    with running() as peers:
        program = sys.executable if command[0] == "python" else command[0]
        words = [program, *command[1:], *go_router.arguments(peers)]
        return subprocess.run(words, env=os.environ | {COMMAND_VARIABLE: said}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
