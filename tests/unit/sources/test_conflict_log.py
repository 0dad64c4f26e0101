import logging

import pytest

from bbr.models.entries import BaseModel, Conflict, Declaration, Entry, Grant, Kind, Origin
from bbr.models.merging import merging
from bbr.models.registry import MAX_IDLE, Registry
from bbr.models.steps import finish
from bbr.sources.conflict_log import LOGGED_AT_ONCE, ConflictLog, LiteralLog


def conflicts(count):
    entry = Entry("qwen", Kind.ADAPTER, Origin("file", "a.yaml"))
    return [Conflict(f"lora-{number}", None, entry, "it is taken") for number in range(count)]


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_conflict_is_logged_and_counted_once_until_it_has_gone(lines):
    log, found = ConflictLog(), conflicts(2)
    finish(log.take(found))
    finish(log.take(found[:1]))
    assert (log.conflicts, log.total, len(lines())) == ((found[0],), 2, 2)
    finish(log.take(found))
    assert (log.conflicts, log.total) == (tuple(found), 3)
    assert lines() == [*map(str, found), str(found[1])]


def test_literal_names_are_logged_once_and_kept_until_their_object_goes(lines):
    log = LiteralLog()

    def look(key, *names):
        declared = (Declaration(Origin("file", key), tuple(map(BaseModel, names))),)
        finish(log.look(("file", key), declared))

    look("a", "x*", "y")
    look("b", "y")
    look("a", "x*", "z?")
    assert [sentence.split(" (")[0] for sentence in log.sentences()] == ["the base model x*", "the base model z?"]
    assert len(lines()) == 2
    log.forget(("file", "b"))
    log.forget(("file", "a"))
    assert [*log.sentences()] == []


def test_of_many_some_are_logged_and_the_others_counted(lines):
    log = ConflictLog()
    steps = sum(1 for _ in log.take(conflicts(1000)))
    assert steps == 5
    assert (log.total, len(lines())) == (1000, LOGGED_AT_ONCE + 1)
    assert lines()[-1] == f"{1000 - LOGGED_AT_ONCE} more conflicts; `bbr models` lists them"


def table(*names):
    registry, _ = finish(
        merging([Declaration(Origin(), grants=tuple(Grant(name, frozenset({"team"})) for name in names))])
    )
    return registry


def test_lists_for_no_model_are_logged_when_they_change(lines):
    log = ConflictLog()
    for registry in (Registry(), table("b", "a"), table("a", "b"), Registry(), table("a")):
        finish(log.take_idle(registry))
    assert lines() == ["allow: the model table does not hold a, b", "allow: the model table does not hold a"]


def test_of_many_lists_the_first_are_named(lines):
    finish(ConflictLog().take_idle(table(*(f"{number:02}" for number in range(LOGGED_AT_ONCE + 3)))))
    assert lines()[0].endswith(f", {LOGGED_AT_ONCE - 1} and 3 more")


def test_of_very_many_lists_the_search_ends(lines):
    finish(ConflictLog().take_idle(table(*map(str, range(MAX_IDLE + 5)))))
    assert lines()[0].endswith(f" and at least {MAX_IDLE - LOGGED_AT_ONCE} more")
