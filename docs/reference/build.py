"""The page of the options, from their declarations. Run: python -m docs.reference.build [--check]

Writes flags.md beside this file; with --check, says whether it is what would be written.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from bbr.config import settings as config
from bbr.config.options import Group

FILE: Final = Path(__file__).with_name("flags.md")

_HEAD: Final = """\
# The options of `bbr serve`

`bbr serve --help` shows them in these groups, without the last one; `bbr serve --help-all` shows all. Each option is
also an environment variable: `BBR_` and its name in capitals, as in `BBR_GRPC_PORT=9004`. The command line wins.
The other commands take the same options, so that they see what the router would see.

This page is generated: `make reference`.
"""


def page() -> str:
    """Return the page as it should be."""
    return _HEAD + "".join(_section(group) for group in Group)


def _section(group: Group) -> str:
    lines = [f"\n## {group.value}\n", "| option | values | default | meaning |", "|---|---|---|---|"]
    for name, option in config.OPTIONS.items():
        if option.group is group:
            default = f"`{option.default}`" if option.default else ""
            values = option.metavar.replace("|", "\\|")
            flag = config.flag_of(name)
            # GitHub and the site both take it for an anchor: flags.md#max-body-bytes.
            anchor = f'<a id="{flag.removeprefix("--")}"></a>'
            lines.append(f"| {anchor}`{flag}` | {values} | {default} | {option.help} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or compare it with the file and return 1 if they differ."""
    parser = argparse.ArgumentParser(prog="python -m docs.reference.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is out of date")
    if not parser.parse_args(arguments).check:
        FILE.write_text(page(), "utf-8")
    elif FILE.read_text("utf-8") != page():
        print("docs/reference/flags.md is not what the options declare: run `make reference`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
