"""The `bbr` command."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from bbr import __version__, config

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

_DESCRIPTION: Final = """\
bbr is a body-based router for Envoy: an external processor (ext_proc) that reads the model named in a request's body
and sets X-Gateway-Model-Name and X-Gateway-Base-Model-Name, so that the gateway's routes send the request to the
model's pool."""

_SERVE_EPILOG: Final = """\
Every flag can also be given as an environment variable: BBR_ and the flag's name in capitals, as in
BBR_GRPC_PORT=9004. A flag wins over its variable. Exit status: 0 stopped by a signal, 1 could not start or failed,
2 a flag or variable has no usable value."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # ours does not return either: it exits
        """Exit with one sentence; the usage of all flags would bury it."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    known, unknown = _parser().parse_known_args(argv)
    arguments = vars(known)
    arguments.pop("command")
    try:
        if unknown:
            raise config.ConfigError(f"{unknown[0]} is not a flag of `bbr serve`; see `bbr serve --help`")
        given = {name: text for name, text in arguments.items() if text is not None}
        settings = config.load({name: _joined(text) for name, text in given.items()}, os.environ)
    except config.ConfigError as error:
        return _fail(EXIT_USAGE, error)
    return _serve(settings)


def _serve(settings: config.Settings) -> int:
    # grpcio's C core would write refused binds and resets to stderr in a format of its own, beside our sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import uvloop  # loading these takes 0.2 s, which --help need not wait for

    from bbr.server import Server, StartError

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(Server(settings).run())
    except StartError as error:
        return _fail(EXIT_FAILED, error)
    return EXIT_OK


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else ",".join(text)


def _fail(code: int, error: Exception) -> int:
    print(f"bbr serve: {error}.", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bbr",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bbr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve ext_proc to a gateway until SIGTERM",
        description="Serve ext_proc to a gateway until SIGTERM.",
        epilog=_SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, option in config.OPTIONS.items():
        default = f" (default: {option.default})" if option.default else ""
        serve.add_argument(
            config.flag_of(name),
            dest=name,
            metavar=option.metavar,
            help=(option.help + default).replace("%", "%%"),
            action="append" if option.repeatable else "store",
            nargs="?" if option.switch else None,
            const="true" if option.switch else None,
        )
    return parser
