"""`bbr serve`: the router."""

import argparse
import logging
import os
import signal
from collections.abc import Callable
from typing import Any, Final

from bbr.commands.exits import EXIT_FAILED, EXIT_OK, CommandError
from bbr.config.arguments import Arguments, add_settings
from bbr.config.options import Group

log = logging.getLogger(__name__)

ARGUMENTS: Final = "[OPTION...]"
DESCRIPTION: Final = "Serve ext_proc to a gateway until SIGTERM."
EPILOG: Final = """\
Every option can also be an environment variable: BBR_ and the option's name in capitals, as in BBR_GRPC_PORT=9004. An
option wins over its variable. The Go routers' options (--streaming, --plugin, --config-file, --config-text and others)
are understood too: docs/reference/go-router.md.

Examples:
  bbr serve --models models.yaml
  bbr serve --kubernetes --namespace models --log-format json

Exit status:
  0    stopped by SIGTERM or SIGINT, even if --drain-seconds ended before all requests did (uv logs that)
  1    could not start (a port, a file, a certificate), or no complete model table within --sync-timeout
  2    an option or a variable is unusable
  130  killed by a second signal, SIGINT, during the drain (143 for SIGTERM), as a shell counts
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr serve`."""
    add_settings(parser, hidden=[Group.RARE])


def run(arguments: Arguments) -> int:
    """Serve until a signal and return the exit status.

    Raises:
        ConfigError: a setting is unusable.
        CommandError: the router could not start, and logs are texts for people.
    """
    settings = arguments.settings()
    # A reload that someone asks for during start or end changes nothing, and must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # grpcio's C core would write refused binds and resets to stderr in a format of its own, beside our sentence.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    pem = _certificate_maker() if settings.secure_serving else None
    import uvloop  # loading these takes 0.2 s, which --help need not wait for

    from bbr.server import Server, StartError
    from bbr.telemetry import logs

    form = logs.set_up(settings.log_level, settings.log_format)
    for note in arguments.notes:
        log.log(note.level, "%s", note.text)
    while arguments.unread:
        log.warning("%s", arguments.unread.pop(0))
    try:
        uvloop.run(logs.watched(Server(settings, pem).run()))
    except StartError as error:
        if form == "text":
            raise CommandError(EXIT_FAILED, error) from None
        log.critical("bbr serve: %s.", error)
        return EXIT_FAILED
    return EXIT_OK


def _certificate_maker() -> Callable[..., Any]:
    """Start what makes or reads the certificate, beside what the router loads meanwhile."""
    from bbr.tls import apart

    return apart.Started()
