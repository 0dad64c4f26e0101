"""What reading a source's text costs grows with its length and no faster, for every shape that is known to be odd.

Each shape is read at one length and at several times as much. Lines of our own code are counted, which are the same on
every machine. Processor time, of longer texts, stands for what libyaml and msgspec do.
"""

import json
from collections.abc import Callable

import pytest

from bbr.models.entries import Origin
from bbr.models.steps import finish
from bbr.sources import answers, configmap, file
from bbr.sources.kubernetes import ConfigMap
from bbr.sources.objects import SourceError
from bbr.sources.routes import HTTPRoute
from bbr.yaml_tree import YamlError, tree
from tests.support import steps

# Lengths: at which lines are counted, and processor time is taken; that is more than libyaml reads at once.
COUNTED, TIMED = 2_000, 20_000
TIMES, TIMED_TIMES = 4, 6
# Of so many times the length. A cost that grows with the square would be 16 times as many lines, and 36 times as long.
# On a busy machine a long text may take twice its time, since it never has the cache for itself as a short one has.
MOST_LINES, MOST_SECONDS = 6, 18
# Below so much nothing is to be told from processor time.
LEAST_SECONDS = 0.001

AT = Origin("file", "models.yaml")


def repeated(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda length: before + unit * (length // len(unit)) + after


YAML = {
    "directives": lambda length: "".join(f"%TAG !a{n}! b\n" for n in range(length // 14)) + "--- a",
    "a list in one line": repeated("a,", "[", "]"),
    "a mapping in one line": repeated("a,", "{", "}"),
    "pairs in one line": repeated("a: b,", "[", "]"),
    "keys with question marks": repeated("? a,", "[", "]"),
    "empty lists": repeated("[],", "[", "]"),
    "open lists": repeated("["),
    "a list": repeated("- a\n"),
    "nothing in a list": repeated("-\n"),
    "nested lists": repeated("- "),
    "a mapping": repeated("a: b\n"),
    "equal keys": repeated('"a":1,', "{", "}"),
    "complex keys": repeated("? a\n: b\n"),
    "keys without an end": repeated("? "),
    "a long word": repeated("a"),
    "a long number": repeated("9"),
    "words": repeated("a "),
    "words in lines": repeated("a\n"),
    "blanks": repeated(" ", "a:", "b"),
    "tabs": repeated("\t", "a:", "b"),
    "empty lines": repeated("\n", "a", "b"),
    "other ends of lines": repeated("\x85\u2028\r", "a", "b"),
    "comments": repeated("#\n"),
    "a long comment": repeated("c", "#"),
    "a quoted text": repeated("a ", '"', '"'),
    "escapes": repeated("\\u0041", '"', '"'),
    "folded quotes": repeated("a\n", '"', '"'),
    "doubled quotes": repeated("''", "'", "'"),
    "a literal": repeated(" a\n", "|\n"),
    "a folded text of many indents": repeated(" a\n  b\n", ">\n"),
    "a literal's blank lines": repeated("\n", "|\n", " a"),
    "literals": repeated("- |\n  a\n"),
    "anchors": lambda length: "".join(f"- &a{n} x\n" for n in range(length // 9)),
    "one anchor again and again": repeated("- &a x\n"),
    "aliases": repeated("- *a\n", "- &a x\n"),
    "aliases of aliases": lambda length: (
        "- &a0 x\n" + "".join(f"- &a{n} [*a{n - 1}]\n" for n in range(1, length // 15))
    ),
    "merge keys": repeated("<<: *a\n", "x: &a {b: c}\n"),
    "a long anchor": repeated("a", "&", " a"),
    "a long tag": repeated("%41", "!<", "> a"),
    "tags": repeated("!!str a,", "[", "]"),
    "documents": repeated("---\n"),
    "ends of documents": repeated("...\n"),
    "byte order marks": repeated("\ufeff"),
    "letters of three bytes": repeated("漢"),
    "a NUL at the end": repeated("- a\n", "", "\x00"),
    "no end of a quote": repeated("a", '"'),
}


def read_or_refused(read: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
        try:
            return read()
        except (SourceError, YamlError) as error:
            return error

    return call


Reader = Callable[[int], Callable[[], object]]


def lines_are_in_proportion(reader: Reader) -> bool:
    return steps.lines(reader(COUNTED * TIMES)) <= MOST_LINES * steps.lines(reader(COUNTED)) + 500


def seconds_are_in_proportion(reader: Reader) -> bool:
    short, long = reader(TIMED), reader(TIMED * TIMED_TIMES)
    return steps.take_as_long(long, short, MOST_SECONDS, LEAST_SECONDS)


def test_a_cost_that_grows_with_the_square_is_found():
    def lines(length):
        return lambda: [finish(tree("- a\n" * number)) for number in range(0, length // 100, 2)]

    def square(length):
        return lambda: sum(1 for _ in range(length * length // 10_000))

    assert not lines_are_in_proportion(lines)
    assert not seconds_are_in_proportion(square)
    assert seconds_are_in_proportion(lambda length: lambda: sum(1 for _ in range(10 * length)))


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_reading_yaml_costs_what_its_length_is(text):
    def reader(length):
        found = text(length)
        return read_or_refused(lambda: finish(tree(found)))

    assert lines_are_in_proportion(reader)
    assert seconds_are_in_proportion(reader)


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_reading_a_config_map_costs_what_its_length_is(text):
    def reader(length):
        data = {"baseModel": "qwen", "adapters": text(length)}
        return read_or_refused(lambda: finish(configmap.parse(data, AT, 256)))

    assert lines_are_in_proportion(reader)


FILES = {
    "models": lambda length: "models:\n" + "".join(f"- name: m{n}\n" for n in range(length // 12)),
    "one model again and again": repeated("- {name: m}\n", "models:\n"),
    "adapters": lambda length: "models:\n- name: m\n  adapters:\n" + "".join(f"  - x{n}\n" for n in range(length // 8)),
    "one adapter again and again": repeated("  - x\n", "models:\n- name: m\n  adapters:\n"),
    "adapters of the same list": repeated("- {name: m, adapters: *l}\n", "models:\n- {name: m, adapters: &l [x]}\n"),
    "aliases": lambda length: "models: [{name: m}]\naliases:\n" + "".join(f"  x{n}: m\n" for n in range(length // 9)),
    "conflicts": lambda length: (
        "models:\n- {name: m, adapters: [x]}\n" + "- {name: n, adapters: [x]}\n" * (length // 27)
    ),
    "nothing but unknown fields": repeated("a: b\n"),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_reading_a_file_costs_what_its_length_is(text):
    def reader(length):
        found = text(length)
        return read_or_refused(lambda: finish(file.parse(found, AT, 256)))

    assert lines_are_in_proportion(reader)


METADATA = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1"}


def config_map(**fields):
    return {"type": "ADDED", "object": {"metadata": METADATA, **fields}}


def route(*headers):
    return {"type": "ADDED", "object": {"metadata": METADATA, "spec": {"rules": [{"matches": [{"headers": headers}]}]}}}


HEADER = {"name": "X-Gateway-Model-Name", "value": "m"}
EVENTS = {
    "data in escapes": (ConfigMap, lambda length: config_map(data={"adapters": "<" * length})),
    "data of others": (ConfigMap, lambda length: config_map(data={f"k{n}": "x" for n in range(length // 10)})),
    "labels": (ConfigMap, lambda length: {"type": "ADDED", "object": {"metadata": {"labels": {"k" * length: "x"}}}}),
    "numbers": (ConfigMap, lambda length: config_map(other=[1] * (length // 3))),
    "one long number": (ConfigMap, lambda length: config_map(other=int("9" * min(length // 100, 4000)))),
    "empty objects": (ConfigMap, lambda length: config_map(other=[{}] * (length // 4))),
    "header matches": (HTTPRoute, lambda length: route(*[HEADER] * (length // 50))),
    "header matches that differ": (
        HTTPRoute,
        lambda length: route(*({**HEADER, "value": str(number)} for number in range(length // 50))),
    ),
    "rules": (
        HTTPRoute,
        lambda length: {"type": "ADDED", "object": {"metadata": METADATA, "spec": {"rules": [{}] * (length // 4)}}},
    ),
}


@pytest.mark.parametrize(("kind", "document"), EVENTS.values(), ids=EVENTS)
def test_reading_an_event_costs_what_its_length_is(kind, document):
    def reader(length):
        octets = json.dumps(document(length)).encode()
        return lambda: list(answers.event_frames(kind, octets))

    assert lines_are_in_proportion(reader)
    assert seconds_are_in_proportion(reader)


@pytest.mark.parametrize(("kind", "document"), EVENTS.values(), ids=EVENTS)
def test_reading_a_page_costs_what_its_length_is(kind, document):
    def reader(length):
        octets = json.dumps({"metadata": {}, "items": [document(length // 10)["object"]] * 10}).encode()
        return lambda: list(answers.page_frames(kind, octets))

    assert lines_are_in_proportion(reader)
    assert seconds_are_in_proportion(reader)
