"""Any octets as a model file, and as the adapters of a ConfigMap: models, or one sentence; and the same from afar."""

from functools import partial

import msgspec

from bbr.models.entries import Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import Steps, finish
from bbr.reading.name import check_model
from bbr.sources import configmap, file
from bbr.sources.documents import ParseBytes, Received, declared
from bbr.sources.objects import SourceError
from bbr.yaml_tree import MAX_NODES

AT = Origin("file", "models.yaml")
LONGEST = 256


def check(octets: bytes) -> None:
    agree(partial(file._parse_bytes, AT, LONGEST), octets)
    data = {"baseModel": "qwen", "adapters": octets.decode("utf-8", "replace")}
    agree(partial(configmap.parse_bytes, AT, LONGEST, None), msgspec.msgpack.encode(data))
    in_scope = {"hosts": "a.example", **data}
    agree(partial(configmap.parse_bytes, AT, LONGEST, "team-a"), msgspec.msgpack.encode(in_scope))


def agree(parse: ParseBytes, octets: bytes) -> None:
    """Parse here, and as the other process does; fails if they differ, or if a name can't be used."""
    found = outcome(parse(octets))
    received = Received(AT)
    for frame in declared(parse, octets):
        received.take(frame)
    assert outcome(received.parse()) == found


def outcome(steps: Steps[tuple[Declaration, ...]]) -> str | dict[str, object]:
    """Return the table that a document makes, or why it makes none."""
    why = ""
    declarations: tuple[Declaration, ...] = ()
    try:
        declarations = finish(steps)
    except SourceError as error:
        why = str(error)
    if why:
        assert "\n" not in why
        assert len(why) < 1000
        return why
    registry, _ = finish(merging(declarations))
    assert registry.size <= MAX_NODES
    names = dict(registry.items())
    for name in names:
        assert check_model(name, LONGEST) == name
    return dict(names)
