"""`bbr probe`: its arguments, and what it prints. It takes nothing from the environment."""

import argparse
from typing import Final

from bbr.commands import output
from bbr.commands.exits import EXIT_FAILED, EXIT_OK
from bbr.commands.probe import probe
from bbr.commands.probe.probe import MODES, ProbeOptions
from bbr.commands.probe.wire import Address, Tls
from bbr.config import options
from bbr.config.arguments import Arguments
from bbr.config.settings import ConfigError
from bbr.text import encodable, quoted

ARGUMENTS: Final = "[OPTION...]"
DESCRIPTION: Final = """\
Ask an ext_proc server, bbr or another, for its health and for one real exchange, as a gateway would, and print the
answers. A container's health check can use it."""
EPILOG: Final = """\
Examples:
  bbr probe --addr 127.0.0.1:9004 --tls --model sql-lora
  bbr probe --health-addr 127.0.0.1:9005

Exit status: 0 the server is healthy, and routes each given --model; 1 it is not healthy, does not route, or
can't be reached; 2 an option is unusable."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr probe`."""
    add = parser.add_argument
    add(
        "--addr",
        metavar="HOST:PORT",
        help="address of the ext_proc port (default: none; asks only --health-addr for health)",
    )
    add("--tls", action="store_true", help="speak TLS with --addr; the certificate is verified only with --tls-ca")
    add("--tls-ca", metavar="FILE", help="PEM file with the authorities that may have signed the certificate")
    add("--tls-cert", metavar="FILE", help="PEM file with a client certificate to show")
    add("--tls-key", metavar="FILE", help="PEM file with its key")
    add(
        "--server-name",
        metavar="NAME",
        help="the server name for SNI and for verification (default: the host of --addr)",
    )
    add("--health-addr", metavar="HOST:PORT", help="ask for health there, in plaintext (default: at --addr)")
    model_help = "a model that must be routed; may be repeated (default: an unlikely name, for which a 404 is fine)"
    add("--model", metavar="NAME", action="append", help=model_help)
    add("--mode", choices=MODES, default="full-duplex", help="body mode (default: full-duplex)")
    add("--timeout", metavar="SECONDS", default="5", help="time limit for each --model (default: 5)")
    add("--json", action="store_true", help="print JSON")


def run(arguments: Arguments) -> int:
    """Print what the probe found and return the exit status.

    Raises:
        ConfigError: an argument is unusable.
    """
    models, as_json = arguments["model"] or [None], arguments["json"]
    for name in arguments["model"] or ():
        if encodable(name) != name:
            raise ConfigError(f"--model: {quoted(name)} is not UTF-8")
    if as_json and len(models) > 1:
        raise ConfigError("--json takes one --model: it prints one report")
    code = EXIT_OK
    for each in [_options(arguments, model) for model in models]:
        try:
            report = probe.probe(each)
        except OSError as error:  # what the network does is in the report
            raise ConfigError(f"--tls-ca, --tls-cert or --tls-key can't be used: {error.strerror or error}") from None
        output.write(probe.as_json(report) if as_json else probe.text(report), as_json=as_json)
        if report.problems:
            code = EXIT_FAILED
    return code


def _options(arguments: Arguments, model: str | None) -> ProbeOptions:
    address, health_address = _address("--addr", arguments["addr"]), _address("--health-addr", arguments["health_addr"])
    if not address and (not health_address or arguments["tls"] or model):
        raise ConfigError(
            "--addr is missing: the address of the ext_proc port. --health-addr alone asks for health, in plaintext"
        )
    return ProbeOptions(
        address=address,
        tls=_tls(arguments),
        health_address=health_address,
        model=model,
        mode=arguments["mode"],
        timeout_seconds=_seconds(arguments["timeout"]),
    )


def _address(flag: str, text: str | None) -> Address | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        number = options.port(port)
    except ValueError:
        number = 0
    if not bare or (":" in bare) != (bare != host) or not number:
        raise ConfigError(f"{flag}: {quoted(text)} is not HOST:PORT")
    return Address(bare, number)


def _tls(arguments: Arguments) -> Tls | None:
    files = {name: arguments[f"tls_{name}"] for name in ("ca", "cert", "key")}
    if not arguments["tls"] and (any(files.values()) or arguments["server_name"]):
        raise ConfigError("--tls-ca, --tls-cert, --tls-key and --server-name need --tls")
    if bool(files["cert"]) != bool(files["key"]):
        raise ConfigError("--tls-cert and --tls-key belong together: a certificate and its key")
    return Tls(**files, server_name=arguments["server_name"]) if arguments["tls"] else None


def _seconds(text: str) -> float:
    try:
        return options.positive_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--timeout: {quoted(text)} {error}") from None
