"""What becomes of the table as ConfigMaps come, change and go: in the Go routers, and in ours."""

import re
import time
from collections.abc import Callable
from typing import Final

from bbr.sources import configmap
from bbr.sources.objects import SourceObject
from bbr.sources.table import Table
from bench.harness import go_router
from bench.harness.fake_kubernetes import FakeKubernetes
from tests.conformance.go import replay
from tests.conformance.go.corpus import DATA, STREAMED, Conversation, body, headers
from tests.conformance.go.replay import SECONDS, Target

# Changes a cluster; `label` marks ConfigMaps for the router.
Step = Callable[[FakeKubernetes, str], object]


def put(name: str, base_model: str | None, *adapters: str, text: str | None = None, labelled: bool = True) -> Step:
    """Return a step that creates a ConfigMap, or writes a new state of it."""
    data = {} if base_model is None else {"baseModel": base_model}
    if adapters or text is not None:
        data["adapters"] = "".join(f"- {each}\n" for each in adapters) if text is None else text

    def step(server: FakeKubernetes, label: str) -> None:
        labels = [label] if labelled else []
        server.put(name, data=data, labels=labels, kind="ConfigMap", apiVersion="v1")

    return step


def delete(name: str) -> Step:
    """Return a step that deletes a ConfigMap."""
    return lambda server, _: server.delete(name)


# Name -> steps, and the models that are asked for then. Each has names of its own, so that all can come one by one.
HISTORIES: Final[dict[str, tuple[list[Step], list[str]]]] = {
    "a new one": ([put("a", "base-a", "a1", "a2")], ["base-a", "a1", "a2", "a3"]),
    "an adapter more": ([put("b", "base-b", "b1"), put("b", "base-b", "b1", "b2")], ["base-b", "b1", "b2"]),
    "an adapter less": ([put("c", "base-c", "c1", "c2"), put("c", "base-c", "c2")], ["base-c", "c1", "c2"]),
    "another base model": ([put("d", "base-d", "d1"), put("d", "new-d", "d1")], ["base-d", "new-d", "d1"]),
    "its label goes": ([put("e", "base-e", "e1"), put("e", "base-e", "e1", labelled=False)], ["base-e", "e1"]),
    "its label comes": ([put("f", "base-f", "f1", labelled=False), put("f", "base-f", "f1")], ["base-f", "f1"]),
    "without a label": ([put("g", "base-g", "g1", labelled=False)], ["base-g", "g1"]),
    "deleted": ([put("h", "base-h", "h1"), delete("h")], ["base-h", "h1"]),
    "deleted, and there again": (
        [put("i", "base-i", "i1"), delete("i"), put("i", "base-i", "i2")],
        ["base-i", "i1", "i2"],
    ),
    "two of one base model, the label of one goes": (
        [put("j", "base-j", "j1"), put("k", "base-j", "k1"), put("k", "base-j", "k1", labelled=False)],
        ["base-j", "j1", "k1"],
    ),
    "two of one base model, one deleted": (
        [put("l", "base-l", "l1"), put("m", "base-l", "m1"), delete("m")],
        ["base-l", "l1", "m1"],
    ),
    "two of one adapter": ([put("n", "base-n", "shared-n"), put("o", "base-o", "shared-n")], ["shared-n"]),
    "two of one adapter, the label of the later goes": (
        [put("p", "base-p", "shared-p"), put("q", "base-q", "shared-p"), put("q", "base-q", labelled=False)],
        ["shared-p", "base-p"],
    ),
    "broken adapters": ([put("r", "base-r", "r1"), put("r", "base-r", text="[")], ["base-r", "r1"]),
    "no base model any more": ([put("s", "base-s", "s1"), put("s", None, "s2")], ["base-s", "s1", "s2"]),
    "blanks around names": ([put("t", " base-t ", '" t1 "')], ["base-t", "t1"]),
    "nothing but a comment": ([put("u", "base-u", text="# none yet\n")], ["base-u"]),
}
# The body mode is no matter.
TARGETS: Final = tuple(target for target in replay.TARGETS if target.mode == STREAMED)
_LAST: Final = "known-last-"


def theirs(target: Target) -> dict[str, dict[str, str]]:
    """Return what a Go router takes each model for, after each history: name -> model -> base model, "" for none.

    Raises:
        GoRouterError: it does not start, or does not learn of a ConfigMap in time.
    """
    found = {}
    with go_router.cluster(DATA, target.label) as (server, background, kube_config):
        started = go_router.started(target.program, kube_config, lambda port: _base_model(port, "qwen") == "qwen")
        with started as (_, (port, _, _)):
            for number, (name, (steps, models)) in enumerate(HISTORIES.items()):
                for at, step in enumerate(steps):
                    # It takes ConfigMaps in the order of their changes, but several changes of one at once.
                    last = f"{_LAST}{number}-{at}"
                    background.run(_step(step, server, target.label))
                    background.run(_step(put(last, last), server, target.label))
                    _await(port, last)
                found[name] = {model: _base_model(port, model) for model in models}
    return found


async def _step(step: Step, server: FakeKubernetes, label: str) -> None:
    step(server, label)


def _await(port: int, model: str) -> None:
    """Wait until a router knows a model."""
    deadline = time.monotonic() + SECONDS
    while _base_model(port, model) != model:
        if time.monotonic() > deadline:
            raise go_router.GoRouterError(f"the Go router has not learned of {model} in {SECONDS:g} s")
        time.sleep(0.02)


def _base_model(port: int, model: str) -> str:
    asked = Conversation("it", STREAMED, (headers(), body(b'{"model":"%s"}' % model.encode(), end=True)))
    found = re.search(r'X-Gateway-Base-Model-Name="(.*?)"', replay.ask(port, [asked])["it"][0])
    return found[1] if found else ""


def ours() -> dict[str, dict[str, str]]:
    """Return the same of our table."""
    found = {}
    for name, (steps, models) in HISTORIES.items():
        table = Table(["kubernetes"])
        table.replace("kubernetes", [])
        server = FakeKubernetes()
        for number, step in enumerate(steps):
            step(server, replay.BBR)
            _follow(table, server, number)
        entries = {each: entry.base_model for each, entry in table.registry.items()}
        found[name] = {model: entries.get(model, "") for model in models}
    return found


def _follow(table: Table, server: FakeKubernetes, version: int) -> None:
    objects = []
    for number, each in enumerate(server.objects()):
        if each["metadata"]["labels"].get(replay.BBR) == "true":
            name, data = each["metadata"]["name"], each["data"]
            origin = configmap.origin("default", name, None)
            parse = lambda data=data, origin=origin: configmap.parse(data, origin)  # noqa: E731
            objects.append(SourceObject(f"default/{name}", (version, number), parse))
    table.replace("kubernetes", objects)
    table.apply_now()
