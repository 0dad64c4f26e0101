"""Settings that bbr no longer has, and what replaces each of them.

A command line or an environment that still has one is an error. If the router ignored it, its behaviour would change
silently.
"""

from collections.abc import Mapping
from typing import Final

# The setting's name, as a field of Settings had it -> what to write instead.
REPLACEMENTS: Final[Mapping[str, str]] = {
    "access_log_sample": "give the share to --access-log, as in --access-log=0.01",
    "discover_https": "use --discover-ca=system, or --discover-ca with a file of authorities",
    "discover_ca_file": "use --discover-ca with the same file",
    "duplex_idle_seconds": "use --body-idle-seconds",
    "buffered_wait_seconds": "use --body-idle-seconds, with a fifth of the time",
    "models_list_max_bytes": "give the size to --serve-models-list, as in --serve-models-list=1MiB",
    "single_reply_bytes": "leave it out: it had no benefit",
    "stream_threshold_bytes": "leave it out: JSON bodies over 256 KiB are read piece by piece",
    "streaming": "use --assume-body-mode=full-duplex or --assume-body-mode=buffered",
    "v": "use --log-level=debug, and --access-log=all for what was --v=5",
}

# What Go routers' command lines have. bbr.config.go_flags translates these for `bbr serve`.
_GO_SPELLINGS: Final = ("streaming", "v")


def sentence(name: str) -> str:
    """Return what is to be said to someone who still uses a removed setting."""
    flag = "--" + name.replace("_", "-")
    if name in _GO_SPELLINGS:
        return f"{flag} is a flag of the Go routers, which only `bbr serve` takes: {REPLACEMENTS[name]}"
    return f"{flag} was removed: {REPLACEMENTS[name]}"


def of_flag(word: str) -> str | None:
    """Return the sentence for a word of a command line, or None if the word is no flag of a removed setting."""
    name = word.partition("=")[0].removeprefix("--").replace("-", "_")
    return sentence(name) if word.startswith("--") and name in REPLACEMENTS else None
