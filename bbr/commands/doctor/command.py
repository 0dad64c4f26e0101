"""`bbr doctor`: its arguments, and what it prints."""

import argparse
from pathlib import Path
from typing import Final

from bbr.commands import output
from bbr.commands.doctor.admin import AdminError
from bbr.commands.doctor.diagnose import diagnose
from bbr.commands.exits import EXIT_USAGE, CommandError
from bbr.config.arguments import Arguments, add_settings
from bbr.sources.objects import SourceError

ARGUMENTS: Final = "(--envoy-admin URL | --from DIR|FILE) [OPTION...]"
DESCRIPTION: Final = """\
Read a gateway's configuration and statistics from Envoy's admin interface, and name each mistake that keeps body-based
routing from working, with its evidence and the fix. With --models or --kubernetes it also compares the routes with the
model table. It changes nothing. It can't see into Lua, WebAssembly, matchers around filters, and scoped routes."""
EPILOG: Final = """\
Examples:
  bbr doctor --envoy-admin http://127.0.0.1:19000 --models models.yaml
  bbr doctor --from config_dump.json --json

Exit status: 0 no errors and no warnings; 1 some; 2 the admin interface, the table or an option is unusable."""

# The router's settings that matter to its gateway.
_SETTINGS: Final = (
    *("models", "kubernetes", "namespace", "kubeconfig", "sync_timeout", "max_model_length"),
    *("max_body_bytes", "secure_serving"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `bbr doctor`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--envoy-admin", metavar="URL", help="Envoy's admin interface, as in http://127.0.0.1:19000")
    saved = "its saved answers: a config_dump, or a directory with config_dump.json and perhaps clusters.json, "
    saved += "stats.json and server_info.json"
    source.add_argument("--from", metavar="DIR|FILE", type=Path, help=saved)
    parser.add_argument(
        "--filter",
        metavar="NAME",
        default="",
        help="the name of the filter that calls bbr (default: the doctor guesses)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_settings(parser, _SETTINGS)


def run(arguments: Arguments) -> int:
    """Print the findings and return the exit status.

    Raises:
        ConfigError: a setting is unusable.
        CommandError: the gateway's answers or the table are.
    """
    settings = arguments.settings()
    output.answer_only()
    as_json = arguments["json"]
    try:
        text, status = diagnose(
            settings,
            url=arguments["envoy_admin"],
            saved=arguments["from"],
            router=arguments["filter"],
            as_json=as_json,
        )
    except (AdminError, SourceError) as error:
        raise CommandError(EXIT_USAGE, error) from None
    output.write(text, as_json=as_json)
    return status
