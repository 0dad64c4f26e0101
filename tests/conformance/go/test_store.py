"""The Go routers' own cases of their store of adapters (U5), on ours: ConfigMaps in, base models out.

And what theirs lacks: a base model that changes in place, a ConfigMap that is really deleted, an adapter that two list.
"""

import datetime

import pytest

from bbr.sources import configmap
from bbr.sources.objects import SourceObject
from bbr.sources.table import Table

ID = "U5"
SOURCE = "kubernetes"


class Store:
    """A table that ConfigMaps come to as they come from a cluster."""

    def __init__(self):
        self.table = Table([SOURCE])
        self.table.replace(SOURCE, [])
        self._version = 0

    def put(self, name, base_model=None, adapters=None, *, created=0):
        data = {"baseModel": base_model, "adapters": adapters}
        data = {key: value for key, value in data.items() if value is not None}
        at = datetime.datetime.fromtimestamp(1_700_000_000 + created, datetime.UTC)
        origin = configmap.origin("default", name, at)
        self._version += 1
        self.table.put(SOURCE, SourceObject(f"default/{name}", self._version, lambda: configmap.parse(data, origin)))
        self.table.apply_now()

    def remove(self, name):
        self.table.remove(SOURCE, f"default/{name}")
        self.table.apply_now()

    @property
    def names(self):
        return {name: entry.base_model for name, entry in self.table.registry.items()}

    @property
    def broken(self):
        return [key for _, key in self.table.broken]


@pytest.fixture
def store():
    return Store()


TAKEN = {
    "names are trimmed": ((" base ", '- " a1 "\n- a2  \n'), {"base": "base", "a1": "base", "a2": "base"}),
    "empty list items": (("base", '- a1\n- ""\n- "  "\n-\n- a2\n'), {"base": "base", "a1": "base", "a2": "base"}),
    "integers as names": (("base", "- 1\n- 2\n"), {"base": "base", "1": "base", "2": "base"}),
    "no adapters": (("base", None), {"base": "base"}),
    "blank adapters": (("base", " \n"), {"base": "base"}),
    "nothing but a comment": (("base", "# none yet\n"), {"base": "base"}),
}


@pytest.mark.parametrize(("data", "names"), TAKEN.values(), ids=TAKEN)
def test_taken(store, data, names):
    store.put("one", *data)
    assert store.names == names
    assert store.broken == []


REFUSED = {
    "no base model": (None, "- a1"),
    "a blank base model": ("  ", "- a1"),
    "broken YAML": ("base", "["),
    "no list": ("base", "a: b"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused_and_what_was_before_stays(store, data):
    store.put("other", "other")
    store.put("one", *data)
    assert store.names == {"other": "other"}
    store.put("one", "base", "- a1")
    store.put("one", *data)
    assert store.names == {"other": "other", "base": "base", "a1": "base"}
    assert store.broken == ["default/one"]


def test_an_update_drops_and_adds(store):
    store.put("one", "base", "- a1\n- a2\n")
    store.put("one", "base", "- a2\n- a3\n")
    assert store.names == {"base": "base", "a2": "base", "a3": "base"}


def test_a_delete(store):
    store.put("one", "base", "- a1\n")
    store.remove("one")
    assert store.names == {}


def test_a_delete_of_what_was_never_there(store):
    store.put("one", "base", "- a1\n")
    store.remove("two")
    assert store.names == {"base": "base", "a1": "base"}


def test_a_delete_of_what_never_could_be_used(store):
    store.put("one", None, "- a1\n")
    store.remove("one")
    assert (store.names, store.broken) == ({}, [])


def test_two_share_a_base_model(store):
    store.put("one", "base", "- a1\n")
    store.put("two", "base", "- a2\n")
    store.remove("one")
    assert store.names == {"base": "base", "a2": "base"}
    store.remove("two")
    assert store.names == {}


def test_a_reader_has_a_whole_table_while_it_changes(store):
    store.put("one", "base", "".join(f"- a{number}\n" for number in range(3000)))
    registry = store.table.registry
    store.table.put(SOURCE, SourceObject("default/one", "new", lambda: configmap.parse({"baseModel": "other"}, ORIGIN)))
    for _ in store.table._applying():
        assert store.table.registry.size in (3001, 1)
        assert registry.size == 3001
    assert store.names == {"other": "other"}


ORIGIN = configmap.origin("default", "one", None)


# What goes wrong in the Go routers.


def test_a_base_model_that_changes_in_place(store):
    store.put("one", "base", "- a1\n")
    store.put("one", "other", "- a1\n")
    assert store.names == {"other": "other", "a1": "other"}


def test_an_adapter_that_two_list_stays_with_the_one_that_is_left(store):
    store.put("one", "base", "- a1\n", created=1)
    store.put("two", "base", "- a1\n", created=2)
    store.remove("one")
    assert store.names == {"base": "base", "a1": "base"}


def test_an_adapter_that_two_claim_is_the_older_objects_whichever_came_last(store):
    store.put("young", "other", "- a1\n", created=2)
    store.put("old", "base", "- a1\n", created=1)
    assert store.names["a1"] == "base"
    store.put("young", "other", "- a1\n- a2\n", created=2)
    assert (store.names["a1"], store.names["a2"]) == ("base", "other")
    store.remove("old")
    assert store.names["a1"] == "other"
