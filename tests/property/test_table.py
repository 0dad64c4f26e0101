"""Whatever sources publish, and whenever: once all is applied, the table is that of the objects that there are."""

import dataclasses

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bbr.models.entries import BaseModel, Declaration, Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources.objects import SourceError, SourceObject
from bbr.sources.table import Table
from tests.support.examples import examples

SOURCES = st.sampled_from(["file", "kubernetes"])
KEYS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["m1", "m2", "m3", "x", "y"])
# None is content that can't be used.
CONTENTS = st.none() | st.builds(BaseModel, NAMES, st.lists(NAMES, max_size=3).map(tuple))


def declared(source, key, content):
    return () if content is None else (Declaration(Origin(source, key), (content,)),)


class Published(RuleBasedStateMachine):
    """A table beside what it should hold: of each object the last good content, as long as it is there."""

    def __init__(self):
        super().__init__()
        self.table = Table(["file", "kubernetes"])
        self.good = {}
        self.broken = set()
        self.steps = None
        self.version = 0

    def source_object(self, source, key, content, pauses):
        self.version += 1
        if content is None:
            self.broken.add((source, key))
        else:
            self.broken.discard((source, key))
        self.good.setdefault((source, key), [])
        self.good[source, key].append(content)

        def parse():
            for _ in range(pauses):
                yield
            if content is None:
                raise SourceError("no")
            return declared(source, key, content)

        return SourceObject(key, self.version, parse)

    def forget(self, source, key):
        self.good.pop((source, key), None)
        self.broken.discard((source, key))

    @rule(source=SOURCES, key=KEYS, content=CONTENTS, pauses=st.integers(0, 2))
    def put(self, source, key, content, pauses):
        self.table.put(source, self.source_object(source, key, content, pauses))

    @rule(source=SOURCES, key=KEYS)
    def remove(self, source, key):
        self.forget(source, key)
        self.table.remove(source, key)

    @rule(source=SOURCES, contents=st.dictionaries(KEYS, CONTENTS, max_size=3), pauses=st.integers(0, 2))
    def replace(self, source, contents, pauses):
        for key in ("a", "b", "c"):
            if key not in contents:
                self.forget(source, key)
        self.table.replace(
            source, [self.source_object(source, key, content, pauses) for key, content in contents.items()]
        )

    @precondition(lambda self: self.steps is None)
    @rule()
    def begin_to_apply(self):
        self.steps = self.table._applying()

    @precondition(lambda self: self.steps is not None)
    @rule(count=st.integers(1, 5))
    def go_on(self, count):
        for _ in range(count):
            try:
                next(self.steps)
            except StopIteration:
                self.steps = None
                return

    @precondition(lambda self: self.steps is None)
    @rule()
    def quiesce(self):
        self.table.apply_now()
        # Of contents that came while others waited, those that never were parsed were never in use: which they were
        # depends on the steps, so what a broken object keeps is any of its good ones, or nothing.
        live = {}
        for (source, key), contents in self.good.items():
            kept = self.table._kept[source][key].declarations
            if contents[-1] is not None:
                assert kept == declared(source, key, contents[-1])
            else:
                assert kept in [declared(source, key, content) for content in contents] + [()]
            live[source, key] = kept
        expected, conflicts = finish(merging(declaration for each in live.values() for declaration in each))
        assert self.table.registry == dataclasses.replace(expected, complete=self.table.synced)
        assert list(self.table.conflicts) == conflicts
        assert self.table.broken.keys() == self.broken

    @invariant()
    def never_identity(self):
        assert not self.table.registry.identity


TestPublished = Published.TestCase
TestPublished.settings = examples(50, steps=40)
