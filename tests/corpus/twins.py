"""Bodies with a key that orjson takes for `model`, in a process in which it has done so: run by test_twins.py."""

from pathlib import Path

import orjson
import pytest

from bbr.exchange.policy import BodyMode
from bbr.reading.base import read_through
from bbr.reading.coerced import CoercedReading
from bbr.reading.json_body import ABSENT, find_model
from tests.conformance.ext_proc import test_nasty_bodies as exchanges
from tests.corpus.nasty_bodies import TWIN, TWINS, Nasty
from tests.fuzz import test_corpus as fuzz
from tests.property import test_parsers_agree as parsers
from tests.property import test_scanner as splits
from tests.support.scanning import by_octet
from tests.unit.reading.scan import test_scanner as scanner

twins = pytest.mark.parametrize("nasty", TWINS, ids=lambda nasty: nasty.id)


@pytest.fixture(autouse=True)
def _confused() -> None:
    """Fill orjson's key cache, so that the twin takes the place that `model` had."""
    orjson.loads(b"{%s}" % b",".join(b'"%d":0' % number for number in range(20_000)))
    orjson.loads(b'{"%s":0}' % TWIN)
    assert orjson.loads(b'{"model":1}') == {TWIN.decode(): 1}, "orjson tells them apart now: nothing is tried here"


def test_one_clients_keys_mean_nothing_for_another() -> None:
    assert find_model(b'{"model":"a"}') == "a"
    assert find_model(b'{"model":"a","required":["model"],"%s":0}' % TWIN) == "a"
    assert find_model(b'{"%s":"b"}' % TWIN) is ABSENT


def test_the_keys_of_a_model_are_those_of_the_body() -> None:
    nested = b'{"model":{"model":1,"x":[{"model":2}]}}'
    assert read_through(CoercedReading(256), nested) == "map[model:1 x:[map[model:2]]]"
    assert read_through(CoercedReading(256), b'{"model":[{"%s":1}]}' % TWIN) == f"[map[{TWIN.decode()}:1]]"


@twins
@pytest.mark.parametrize("mode", exchanges.MODES)
def test_verdict(nasty: Nasty, mode: BodyMode) -> None:
    exchanges.check(nasty, mode)


@twins
def test_scanner(nasty: Nasty) -> None:
    scanner.check(nasty)
    splits.check(nasty.body, by_octet(nasty.body), 1)


@twins
def test_no_other_parser_reads_a_model_that_differs(nasty: Nasty) -> None:
    parsers.check(nasty.body)


@pytest.mark.parametrize("path", fuzz.TWINS, ids=lambda path: path.name)
def test_l3_replay(path: Path) -> None:
    fuzz.replay(path)
