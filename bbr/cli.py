"""The `bbr` command."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bbr import __version__
from bbr.config import go_flags as dropin
from bbr.config import options
from bbr.config import settings as config
from bbr.config.arguments import HelpFormatter, add_settings, given_settings, unknown_argument
from bbr.config.options import Group

if TYPE_CHECKING:
    from bbr.commands.explain import Asked
    from bbr.commands.probe import probe

log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

_DESCRIPTION: Final = """\
bbr is a body-based router for Envoy: an external processor (ext_proc) that reads the model named in a request's body
and sets X-Gateway-Model-Name and X-Gateway-Base-Model-Name, so that the gateway's routes send the request to the
model's pool."""

_SERVE_EPILOG: Final = """\
Every flag can also be given as an environment variable: BBR_ and the flag's name in capitals, as in
BBR_GRPC_PORT=9004. A flag wins over its variable. The Go routers' flags are taken too:
docs/reference/go-router.md.

Exit status:
  0    stopped by SIGTERM or SIGINT, also if --drain-seconds were over before all requests (uv logs it)
  1    could not start (a port, a file, a certificate), or no complete model table within --sync-timeout
  2    a flag or variable has no usable value
  130  a second signal, SIGINT, ended the drain: killed by it (143 for SIGTERM), as a shell counts
"""

_MODELS: Final = """\
Print the model table that `bbr serve` would have with the same flags and variables: each name, what it stands for, and
the object that declares it; claims that are ignored, since they contradict others; objects that can't be used."""

_LOOK_EPILOG: Final = """\
Exit status: 0, 1 if an object can't be used, 2 if a flag or variable has no usable value."""

_EXPLAIN: Final = """\
Tell what `bbr serve` would do with a request, with the same flags and variables: which headers it would set and remove,
or what it would answer, by which rule, and which object declares the model. A body without a content-type is taken for
JSON. Exit status: 0, 1 if the table can't be used, 2 if the body or a flag can't."""

_CHECK: Final = """\
Validate a model file, or all of a directory: say how many models it holds, or what is wrong with it. Exit status: 0 it
is valid, 1 it is not, or holds claims that would be ignored."""

_DOCTOR: Final = """\
Read a gateway's configuration and statistics from Envoy's admin interface, and name each mistake that keeps body-based
routing from working, with its evidence and the fix. With --models or --kubernetes it also compares the routes with the
model table. It changes nothing. What it can't see into: Lua, WebAssembly, matchers around filters, scoped routes."""

_DOCTOR_EPILOG: Final = """\
Exit status: 0 neither errors nor warnings, 1 some, 2 the admin interface, the table or a flag can't be used."""

# What `bbr doctor` takes of the router's own settings.
_DOCTOR_SETTINGS: Final = (
    *("models", "kubernetes", "namespace", "kubeconfig", "sync_timeout", "max_model_length"),
    *("max_body_bytes", "secure_serving"),
)

_PROBE: Final = """\
Ask an ext_proc server, bbr or another, for its health and for one real exchange, as a gateway would, and print what
came back. Fit for a container's health check. Exit status: 0 it is healthy, and routes --model if that is given;
1 it is not, does not, or can't be reached; 2 a flag has no usable value."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # ours does not return either: it exits
        """Exit with one sentence; the usage of all flags would bury it."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        line = dropin.read(sys.argv[1:] if argv is None else argv, os.environ)
    except config.ConfigError as error:
        return _fail(dropin.COMMAND, EXIT_USAGE, error)
    known, unknown = _parser().parse_known_args(line.arguments)
    arguments = vars(known)
    command = arguments.pop("command")
    try:
        if unknown:
            raise unknown_argument(command, unknown[0])
        if command == "probe":  # which takes nothing from the environment
            return _probe(arguments)
        settings = config.load(given_settings(arguments) | line.settings, os.environ)
    except config.ConfigError as error:
        return _fail(command, EXIT_USAGE, error)
    if command == "serve":
        return _serve(settings, line.notes)
    return _look(command, settings, arguments)


def _serve(settings: config.Settings, notes: Iterable[dropin.Note]) -> int:
    # Whoever asks for a reload while this starts or ends asks for nothing that is not done anyway, and must not end it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # grpcio's C core would write refused binds and resets to stderr in a format of its own, beside our sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import uvloop  # loading these takes 0.2 s, which --help need not wait for

    from bbr.server import Server, StartError
    from bbr.telemetry import logs

    form = logs.set_up(settings.log_level, settings.log_format)
    for note in notes:
        log.log(note.level, "%s", note.text)
    try:
        uvloop.run(logs.watched(Server(settings).run()))
    except StartError as error:
        if form == "text":
            return _fail("serve", EXIT_FAILED, error)
        logging.getLogger("bbr.cli").critical("bbr serve: %s.", error)
        return EXIT_FAILED
    return EXIT_OK


def _look(command: str, settings: config.Settings, arguments: Mapping[str, Any]) -> int:
    """Run a command that prints something and ends."""
    from bbr.commands import explain
    from bbr.commands import table as commands
    from bbr.commands.doctor.admin import AdminError
    from bbr.commands.doctor.diagnose import diagnose
    from bbr.sources.table import SourceError

    logging.getLogger("bbr").addHandler(logging.NullHandler())  # what is wrong stands in the answer, and not twice
    try:
        if command == "models":
            text, status = commands.models(settings, as_json=arguments["json"])
        elif command == "explain":
            text, status = explain.explain(settings, _asked(arguments), as_json=arguments["json"])
        elif command == "doctor":
            asked = {"url": arguments["envoy_admin"], "saved": arguments["from"], "router": arguments["filter"]}
            text, status = diagnose(settings, **asked, as_json=arguments["json"])
        else:
            text, status = commands.check(settings)
    except (config.ConfigError, AdminError) as error:
        return _fail(command, EXIT_USAGE, error)
    except SourceError as error:
        return _fail(command, EXIT_USAGE if command == "doctor" else EXIT_FAILED, error)
    _print(text)
    return status


def _probe(arguments: Mapping[str, Any]) -> int:
    from bbr.commands.probe import probe

    asked = _probed(arguments)
    try:
        report = probe.probe(asked)
    except OSError as error:  # what the network does is in the report
        raise config.ConfigError(
            f"--tls-ca, --tls-cert or --tls-key can't be used: {error.strerror or error}"
        ) from None
    _print(probe.as_json(report) if arguments["json"] else probe.text(report))
    return EXIT_FAILED if report.problems else EXIT_OK


def _probed(arguments: Mapping[str, Any]) -> "probe.Asked":
    """Return what the arguments of `bbr probe` ask for."""
    from bbr.commands.probe.client import Address, Tls
    from bbr.commands.probe.probe import Asked

    def address(flag: str, text: str) -> Address:
        host, _, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not bare or (":" in bare) != (bare != host) or not (port.isdecimal() and 0 < int(port) < 1 << 16):
            raise config.ConfigError(f"{flag}: {text!r} is not HOST:PORT")
        return Address(bare, int(port))

    files = {name: arguments[f"tls_{name}"] for name in ("ca", "cert", "key")}
    if not arguments["tls"] and (any(files.values()) or arguments["server_name"]):
        raise config.ConfigError("--tls-ca, --tls-cert, --tls-key and --server-name need --tls")
    if bool(files["cert"]) != bool(files["key"]):
        raise config.ConfigError("--tls-cert and --tls-key belong together: a certificate and its key")
    try:
        timeout = options.positive_seconds(arguments["timeout"])
    except ValueError as error:
        raise config.ConfigError(f"--timeout: {arguments['timeout']!r} {error}") from None
    addr, health = arguments["addr"], arguments["health_addr"]
    if not addr and (not health or arguments["tls"] or arguments["model"]):
        raise config.ConfigError("--addr is missing; --health-addr alone is enough for health, which is plaintext")
    return Asked(
        address=address("--addr", addr) if addr else None,
        tls=Tls(**files, server_name=arguments["server_name"]) if arguments["tls"] else None,
        health_address=address("--health-addr", health) if health else None,
        model=arguments["model"],
        mode=arguments["mode"],
        timeout_seconds=timeout,
    )


def _asked(arguments: Mapping[str, Any]) -> "Asked":
    """Return the request that the arguments of `bbr explain` describe."""
    from bbr.commands.explain import Asked

    headers = []
    for text in arguments["header"] or ():
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise config.ConfigError(f"--header: {text!r} is not NAME:VALUE")
        headers.append((name.strip(), value.strip()))
    body = _body(arguments["body"])
    if body is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    method = arguments["method"] or ("GET" if body is None else "POST")
    return Asked(method, arguments["path"], headers, body)


def _body(name: str | None) -> bytes | None:
    if name is None:
        return None
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise config.ConfigError(f"{name}: {error.strerror}") from None


def _print(text: str) -> None:
    """Write to stdout; what its encoding does not have, or is no text in a file's name, is spelled out."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would be tried again, and fail again, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # whoever reads has seen enough
            raise SystemExit(f"bbr: stdout can't be written to: {error.strerror}.") from None


def _fail(command: str, code: int, error: Exception) -> int:
    print(f"bbr {command}: {error}.", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bbr",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bbr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str,
        help: str,  # noqa: A002
        description: str,
        epilog: str = "",
        arguments: str = "",
    ) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help,
            description=description,
            usage=f"%(prog)s [OPTION...]{arguments}",
            epilog=epilog,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )

    serve = "Serve ext_proc to a gateway until SIGTERM."
    add_settings(
        command("serve", "serve ext_proc to a gateway until SIGTERM", serve, _SERVE_EPILOG), hidden=[Group.RARE]
    )
    models = command("models", "print the model table that serve would have", _MODELS, _LOOK_EPILOG)
    models.add_argument("--json", action="store_true", help="print JSON")
    add_settings(models, hidden=set(Group) - {Group.TABLE})
    explain = command("explain", "tell what would become of a request, and why", _EXPLAIN, arguments=" [FILE|-]")
    explain.add_argument("body", metavar="FILE|-", nargs="?", help="the request's body, - for stdin (default: none)")
    explain.add_argument("--header", action="append", metavar="NAME:VALUE", help="a header; may be given several times")
    explain.add_argument("--path", default="/v1/chat/completions", help="URL path (default: /v1/chat/completions)")
    explain.add_argument("--method", help="HTTP method (default: POST, or GET without a body)")
    explain.add_argument("--json", action="store_true", help="print JSON")
    add_settings(explain, hidden={Group.PORTS, Group.LIFE, Group.LOGS, Group.RARE})
    check = command("check", "validate a model file", _CHECK, arguments=" FILE|DIR")
    check.add_argument("models", metavar="FILE|DIR", help="the file, or a directory of them")
    add_settings(check, ("max_model_length",))
    _add_doctor(command("doctor", "tell what is wrong with a gateway", _DOCTOR, _DOCTOR_EPILOG))
    _add_probe(command("probe", "ask a running ext_proc server for its health and an exchange", _PROBE))
    return parser


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    source = doctor.add_mutually_exclusive_group(required=True)
    source.add_argument("--envoy-admin", metavar="URL", help="Envoy's admin interface, as in http://127.0.0.1:19000")
    saved = "its saved answers: a config_dump, or a directory with config_dump.json and, if there, clusters.json, "
    saved += "stats.json and server_info.json"
    source.add_argument("--from", metavar="DIR|FILE", type=Path, help=saved)
    doctor.add_argument("--filter", metavar="NAME", default="", help="the filter that calls bbr (default: a guess)")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    add_settings(doctor, _DOCTOR_SETTINGS)


def _add_probe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--addr", metavar="HOST:PORT", help="where ext_proc is served (without it: only health, at --health-addr)")
    add("--tls", action="store_true", help="speak TLS at --addr, without verifying the certificate unless by --tls-ca")
    add("--tls-ca", metavar="FILE", help="PEM file of what to verify the certificate by")
    add("--tls-cert", metavar="FILE", help="PEM file of a client certificate to show")
    add("--tls-key", metavar="FILE", help="PEM file of its key")
    add("--server-name", metavar="NAME", help="name to ask for and to verify (default: the host of --addr)")
    add("--health-addr", metavar="HOST:PORT", help="ask for health there, in plaintext (default: at --addr)")
    add("--model", metavar="NAME", help="must be routed (default: an unlikely one, for which a 404 is healthy too)")
    add("--mode", choices=("full-duplex", "buffered"), default="full-duplex", help="body mode (default: full-duplex)")
    add("--timeout", metavar="SECONDS", default="5", help="for all of it (default: 5)")
    add("--json", action="store_true", help="print JSON")
