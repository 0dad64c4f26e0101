"""Try wheels as a user would: each in an environment of its own, with the locked packages, outside of the checkout.

  python -m tests.wheels dist/*.whl

The router of the wheel answers `bbr --version`, then the demo's tour goes through it behind a real Envoy, and `bbr
probe` asks it for a model. The demo's own parts (Envoy, stand-ins) run from the checkout.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

# The demo's parts come from the checkout, and the router from the environment; nothing from where a process runs.
ISOLATED: Final = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def install(wheel: Path, home: Path) -> Path:
    """Make an environment with a wheel and the locked packages; return its `bin`."""
    venv.create(home, with_pip=True)
    pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "--requirement", str(ROOT / "requirements.lock")], check=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    return home / "bin"


def kind_of(wheel: Path) -> str:
    """Return what a wheel's name says that it is."""
    return "interpreted" if wheel.name.endswith("-none-any.whl") else "compiled"


def check_version(programs: Path, wheel: Path) -> None:
    """Hold what the command says of itself against the wheel's name."""
    done = subprocess.run([programs / "bbr", "--version"], cwd="/", capture_output=True, text=True, check=True)
    if f"({kind_of(wheel)})" not in done.stdout:
        raise SystemExit(f"{wheel.name}: bbr --version says {done.stdout.strip()!r}")
    print(f"{wheel.name}: {done.stdout.strip()}", flush=True)


def tour(packages: Path) -> None:
    """Run the demo's tour with the installed router: this interpreter, with the environment's packages first."""
    paths = os.pathsep.join((str(packages), str(ROOT)))
    command = [sys.executable, "-m", "deploy.local.demo", "--once", "--free-ports"]
    subprocess.run(command, cwd=ROOT, env=os.environ | ISOLATED | {"PYTHONPATH": paths}, check=True)


async def probe(programs: Path) -> None:
    """Start the installed router, and ask it as a gateway does."""
    ports = [str(port) for port in free()]
    router = await asyncio.create_subprocess_exec(
        programs / "bbr",
        "serve",
        "--bind-address=127.0.0.1",
        f"--grpc-port={ports[0]}",
        f"--grpc-health-port={ports[1]}",
        "--metrics-port=0",
        cwd="/",
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert router.stderr is not None
        async with asyncio.timeout(60):
            while b" serves ext_proc on port " not in (line := await router.stderr.readline()):
                if not line:
                    raise SystemExit("the router ended at its start")
        asked = await asyncio.create_subprocess_exec(
            programs / "bbr", "probe", "--addr", f"127.0.0.1:{ports[0]}", "--tls", "--model", "qwen", cwd="/"
        )
        if await asked.wait():
            raise SystemExit("bbr probe failed")
    finally:
        router.terminate()
        await router.wait()


def free() -> list[int]:
    """Return two ports of the loopback address that nobody uses now."""
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def main() -> None:
    """Try all wheels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    for wheel in parser.parse_args().wheels:
        with tempfile.TemporaryDirectory(prefix="bbr-wheel-") as scratch:
            programs = install(wheel.resolve(), Path(scratch))
            check_version(programs, wheel)
            (packages,) = Path(scratch, "lib").glob("python*/site-packages")
            tour(packages)
            asyncio.run(probe(programs))
    print("Both wheels route." if len(parser.parse_args().wheels) == 2 else "It routes.")


if __name__ == "__main__":
    main()
