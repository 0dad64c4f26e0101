import pytest

from bbr.models.steps import finish
from bbr.sources.kept import Kept


@pytest.fixture
def changes():
    return []


def test_objects_are_known_from_the_first_list_on(changes):
    kept = Kept(lambda: changes.append(dict(kept.objects)))
    assert kept.objects is None
    finish(kept.replace({"ns/a": 1}))
    kept.put("ns/b", 2)
    kept.put("ns/a", 3)
    kept.remove("ns/b")
    assert changes == [{"ns/a": 1}, {"ns/a": 1, "ns/b": 2}, {"ns/a": 3, "ns/b": 2}, {"ns/a": 3}]


def test_an_object_that_is_not_known_can_be_removed(changes):
    kept = Kept(lambda: changes.append(None))
    finish(kept.replace({"ns/a": 1}))
    kept.remove("ns/b")
    assert (kept.objects, changes) == ({"ns/a": 1}, [None])
