import pickle
from functools import partial

import msgspec
import pytest

from bbr.models.entries import Alias, BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources import configmap, documents, file
from bbr.sources.documents import LONG_BYTES, Received, declared, source_object
from bbr.sources.objects import SourceError
from bbr.system.worker_process import WorkerProcess
from tests.support.loops import in_loop

AT = Origin("file", "models.yaml")
PARSE_FILE = partial(file._parse_bytes, AT, 256)

FILES = {
    "nothing": b"models: []\n",
    "a few": b"models:\n- {name: a, adapters: [b, c]}\n- name: d\naliases:\n  e: a\n  f: b\n",
    "many models": b"models:\n" + b"".join(b"- name: m%d\n" % number for number in range(3000)),
    "many adapters": b"models:\n- name: a\n  adapters: [%s]\n" % b", ".join(b"x%d" % n for n in range(3000)),
    "many aliases": b"models:\n- name: a\naliases:\n" + b"".join(b"  x%d: a\n" % number for number in range(3000)),
}


def received(frames):
    found = Received(AT)
    for frame in frames:
        found.take(frame)
    return finish(found.parse())


def table(declarations):
    registry, conflicts = finish(merging(declarations))
    return dict(registry.items()), registry.base_models, conflicts


@pytest.mark.parametrize("octets", FILES.values(), ids=FILES)
def test_what_comes_back_declares_the_same(octets):
    frames = list(declared(PARSE_FILE, octets))
    assert table(received(frames)) == table(finish(PARSE_FILE(octets)))
    assert max(map(len, frames)) < 10_000


def test_a_declaration_of_several_kinds_comes_back_whole():
    whole = Declaration(AT, (BaseModel("a", ("b",)), BaseModel("c")), (Alias("d", "a"),))

    def parse(_octets):
        yield
        return (whole, Declaration(AT))

    assert table(received(declared(parse, b""))) == table([whole])


def test_a_broken_rule_comes_back_as_the_same_sentence():
    frames = list(declared(PARSE_FILE, b"models:\n- nam: a\n"))
    with pytest.raises(
        SourceError, match=r"^line 2: an entry of models has the unknown key nam; known: adapters, allow, name$"
    ):
        received(frames)


@pytest.mark.parametrize("length", [LONG_BYTES, LONG_BYTES + 1])
def test_documents_beyond_a_length_are_for_the_other_process(length):
    octets = b"models: []" + b" " * (length - 10)
    each = source_object("a", b"1", AT, PARSE_FILE, octets)
    assert finish(each.parse()) == ()
    assert (each.long is not None) == (length > LONG_BYTES)


@in_loop
async def test_the_other_process_parses_files_and_config_maps():
    worker = WorkerProcess()
    data = {"baseModel": "qwen", "adapters": "".join(f"- x{number}\n" for number in range(5000))}
    config_map = partial(configmap.parse_bytes, AT, 256, None)
    for parse, octets in ((PARSE_FILE, FILES["many adapters"]), (config_map, msgspec.msgpack.encode(data))):
        each = source_object("a", b"1", AT, parse, octets)
        assert each.long.pieces == (octets,)
        assert pickle.loads(pickle.dumps(each.long.job)).func is documents.declared  # noqa: S301
        found = each.long.received()
        await worker.run(each.long.job, each.long.pieces, found.take)
        assert table(finish(found.parse())) == table(finish(each.parse()))
    worker.close()
