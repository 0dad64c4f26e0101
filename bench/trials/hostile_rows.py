"""The rows of bench.trials.hostile: who attacks how, and what that may cost. Kinds are those of docs/design/testing.md.

The bounds on processor time are some four times what a core of 2026 takes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench.trials import hostile_clients as clients
from bench.trials import hostile_peers as peers
from bench.trials.hostile_clients import Run

BASE_MIB: Final = 64  # beside --max-buffered-bytes

# No attack: as many harmless requests as A.2 and A.3 send at once. What they add to the p99 is bounded by no limit of
# ours, so such a row may be over it; it says what the others can come down to.
CONTROL: Final = "A.0"

_NONE: Final = frozenset[str]()
_ASKER: Final = ("--asker=attribute:connection.uri_san_peer_certificate",)
_TEMPLATE: Final = ("--path-template=/**/models/{model}:*",)
_OTHERS: Final = ",".join(f"/**/x{number}/{{model}}/y" for number in range(17))
_MANY: Final = (
    f"--path-template=azure-openai,gemini,bedrock,{_OTHERS}",
    f"--exclude-path={','.join(f'/**/a{number}/**/b*c' for number in range(64))}",
)
_PATTERN: Final = ("--include-path=/v1/**,/**/models/**/generate",)


class Row(NamedTuple):
    """An attack, and what it may cost.

    Attributes:
        issue: the kind of attack, by which rows are chosen.
        name: of the row, by which it is chosen too.
        who: attacks.
        attack: makes its octets in a folder and returns what runs it.
        dose: what one is.
        router_ms: most processor time of the router for one dose.
        parser_ms: most processor time of the process that parses for it, for one dose.
        answers: how the attack's own requests may end; None for any way.
        flags: of the router.
        held_mib: --max-buffered-bytes; the router's memory may be BASE_MIB more.
        mode: of Envoy's bodies.
        tls: between Envoy and the router.
        kubernetes: the router follows the API server that the attack runs.
        told: what the router must have said of it.
    """

    issue: str
    name: str
    who: str
    attack: Callable[[Path], Run]
    dose: str
    router_ms: float
    parser_ms: float = 0.0
    answers: frozenset[str] | None = None
    flags: tuple[str, ...] = ()
    held_mib: int = 512
    mode: str = "FULL_DUPLEX_STREAMED"
    tls: bool = False
    kubernetes: bool = False
    told: str = ""

    @property
    def memory_mib(self) -> int:
        """The most that may be resident in the router."""
        return self.held_mib + BASE_MIB


def _rows() -> Iterator[Row]:
    """Give all rows."""
    row = partial(Row, CONTROL, who="a client", dose="64 requests")
    yield row("plain paths", attack=clients.plain_paths, router_ms=60)
    yield row("plain bodies", attack=clients.plain_bodies, router_ms=400)

    row = partial(Row, "A.1", who="a client")
    yield row("uploads announced", attack=clients.announced, dose="8 for 1 s", router_ms=50, answers=_NONE)
    yield row("uploads in br", attack=clients.decoders, dose="262 for 1 s", router_ms=60, answers=_NONE)
    filling = row("uploads that fill it", attack=clients.filling, dose="8 x 6 MB, 1 s", router_ms=300, held_mib=32)
    yield filling._replace(answers=frozenset({"503"}))
    drip = row("uploads that drip", attack=clients.dripping, dose="8 for 0.25 s", router_ms=20)
    yield drip._replace(flags=("--body-idle-seconds=0.5",), answers=frozenset({"408"}))

    row = partial(Row, "A.2", who="a client")
    yield row("blanks in file names", attack=clients.multipart, dose="1 request", router_ms=50)
    yield row("path against template", attack=clients.template, dose="1 request", router_ms=4, flags=_TEMPLATE)
    yield row("path against pattern", attack=clients.include_path, dose="1 request", router_ms=4, flags=_PATTERN)
    yield row("odd paths, many templates", attack=clients.odd_paths, dose="64 requests", router_ms=300, flags=_MANY)
    yield row("commas in Content-Type", attack=clients.content_types, dose="16 requests", router_ms=10)
    yield row("other long fields", attack=clients.long_fields, dose="9 requests", router_ms=20)

    row = partial(Row, "A.3", who="a client")
    yield row("short bodies together", attack=clients.short_bodies, dose="64 requests", router_ms=1000)
    yield row("other short bodies", attack=clients.other_bodies, dose="64 requests", router_ms=6000)

    yield row("forms of odd keys", attack=clients.odd_keys, dose="8 requests", router_ms=1200)

    row = partial(Row, "A.4", who="a client", mode="BUFFERED", answers=frozenset({"200"}))
    yield row("bodies with trailers", attack=clients.trailers, dose="4 requests", router_ms=20)

    row = partial(Row, "C.1", who="a peer", dose="5.6 MB", router_ms=1500)
    yield row("Huffman fields", attack=peers.fresh_fields)
    yield row("Huffman fields, TLS", attack=peers.fresh_fields_in_tls, tls=True)
    yield row("long attributes", attack=peers.long_contexts, flags=_ASKER)._replace(dose="36 MB", router_ms=1500)

    row = partial(Row, "C.2", who="a peer", dose="1 connection", tls=True, answers=frozenset({"closed"}))
    yield row("KeyUpdates", attack=peers.key_updates, router_ms=20)
    yield row("tiny TLS records", attack=peers.tiny_records, router_ms=30)

    row = partial(Row, "C.3", who="a peer", router_ms=4000, held_mib=64)
    yield row("first messages", attack=peers.first_messages, dose="640 MB")
    yield row("shut windows", attack=peers.shut_windows, dose="720 MB")

    row = partial(Row, "C.4", who="a peer")
    yield row("health port kept", attack=peers.health_port, dose="300 for 0.5 s", router_ms=25)
    yield row("admin port kept", attack=peers.admin_port, dose="1,700 for 0.5 s", router_ms=250)

    row = partial(Row, "D.1", who="a writer", dose="1 write", router_ms=80)
    objects = partial(row, kubernetes=True, told="hostile")
    yield objects("%TAG in a ConfigMap", attack=peers.tag_directives, parser_ms=500)
    yield objects("{a,a,...} in a ConfigMap", attack=peers.flow_mapping, parser_ms=2000)
    yield row("aliases in a model file", attack=peers.alias_bomb, parser_ms=500, told="bomb.yaml")


ROWS: Final = (*_rows(),)


def chosen(begins: Sequence[str]) -> list[Row]:
    """Return the rows whose kind or name begins with any of these; all if there are none.

    Raises:
        SystemExit: one of them begins no row; says which.
    """
    names = {row: (row.issue, row.name) for row in ROWS}
    for each in begins:
        if not any(name.startswith(each) for both in names.values() for name in both):
            raise SystemExit(f"no row begins with {each!r}")
    wanted = tuple(begins) or ("",)
    return [row for row, both in names.items() if any(name.startswith(wanted) for name in both)]
