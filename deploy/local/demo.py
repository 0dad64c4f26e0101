"""`make demo`: run the local stack on loopback, send a tour of requests through it, and stay up for one's own.

Nothing here needs a GPU, a cluster or the network. The model servers and endpoint pickers are stand-ins; the gateway is
a real Envoy, the router is bbr.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

from deploy.local import outage, tour
from deploy.local.stack import PortInUseError, Stack, StackError, StackOptions
from deploy.local.topology import DEFAULT_PORTS, free_ports

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells count

# After this time without anything to see, a person wants to know what the demo waits for.
PATIENCE_SECONDS: Final = 10.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_INVITATION: Final = """
The stack is up. The gateway is {url}; try:

  curl{options} -i {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "sql-lora", "messages": [{{"role": "user", "content": "Who are you?"}}]}}'

  curl{options} -N {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "microsoft/Phi-3-mini-4k-instruct", "stream": true, "messages": []}}'

  tail -f {access_log}

  kill {router}    {about}

The headers x-pod and x-pool of an answer tell which stand-in gave it. Models: deploy/local/models.yaml.
The router's status page: {status_url}
Envoy's admin page: {admin_url}. Ctrl-C stops everything."""


async def run(options: StackOptions, *, once: bool) -> int:
    """Run the stack and the tour until a signal, or with `once` until the tour is done; return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    stack = Stack(options)
    work = asyncio.create_task(_work(stack, once=once))
    waiting = asyncio.create_task(tell_what_is_awaited(stack, PATIENCE_SECONDS))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        stopping.cancel()
        return work.result()
    print("\nStopping everything.")
    work.cancel()
    await asyncio.wait({work})
    if not work.cancelled() and work.exception():
        return work.result()
    print("Stopped.")
    return EXIT_INTERRUPTED if once else EXIT_OK


async def tell_what_is_awaited(stack: Stack, seconds: float) -> None:
    """Print which parts are not ready after a time; nothing if all are."""
    await asyncio.sleep(seconds)
    if stack.awaited:
        names = ", ".join(stack.awaited)
        print(
            f"Waiting for {names}. On a busy machine this can take a minute; after {stack.ready_seconds:g} s it fails."
        )


async def _work(stack: Stack, *, once: bool) -> int:
    print(f"Starting Envoy, the router, and two pools of stand-in model servers. Logs: {stack.log_dir}")
    begun = time.monotonic()
    async with stack:
        print(f"All {len(stack.parts)} parts were ready after {time.monotonic() - begun:.1f} s.\n")
        visits = await stack.unless_dead(tour.run(stack))
        print(tour.table(visits))
        right = sum(not visit.faults for visit in visits)
        print(f"\n{right} of {len(visits)} requests went right.")
        if once:
            return EXIT_OK if right == len(visits) else EXIT_FAILED
        # A proxy of the environment cannot reach this machine's loopback.
        proxied = "http" in urllib.request.getproxies() and not urllib.request.proxy_bypass("127.0.0.1")
        options = " --noproxy '*'" if proxied else ""
        addresses = {"options": options, "url": stack.url, "status_url": stack.status_url, "admin_url": stack.admin_url}
        about = "# the router; what the gateway answers then is shown here, and all else stays up"
        killed = {"router": stack.parts["router"].pid, "about": about}
        print(_INVITATION.format(**addresses, access_log=stack.access_log, **killed))
        async with outage.enter_pressed() as again:
            await outage.watch(stack, again)
    raise AssertionError("watch returned")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo from the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--once", action="store_true", help="exit after the tour: 0 if every request went right, else 1"
    )
    parser.add_argument(
        "--free-ports", action="store_true", help="choose ports that are free instead of 18080 to 18112"
    )
    parser.add_argument("--buffered", action="store_true", help="let Envoy send the router whole bodies (BUFFERED)")
    parser.add_argument(
        "--log-dir", type=Path, metavar="DIR", help="where logs go (default: a new temporary directory)"
    )
    given = parser.parse_args(arguments)
    if given.log_dir:
        given.log_dir.mkdir(parents=True, exist_ok=True)
    options = StackOptions(
        log_dir=given.log_dir or Path(tempfile.mkdtemp(prefix="bbr-demo-")),
        ports=free_ports() if given.free_ports else DEFAULT_PORTS,
        body_mode="BUFFERED" if given.buffered else "FULL_DUPLEX_STREAMED",
        event_seconds=tour.EVENT_SECONDS,
    )
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a pipe's reader wants to see progress
    try:
        return asyncio.run(run(options, once=given.once))
    except PortInUseError as error:
        if not given.log_dir:
            options.log_dir.rmdir()  # nothing was started
        print(f"The demo cannot run: {error}", file=sys.stderr)
        print("Perhaps another demo runs: stop it, or take free ports: make demo FREE_PORTS=1", file=sys.stderr)
        return EXIT_FAILED
    except StackError as error:
        print(f"The demo cannot run: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
