"""Requests to the lab's gateway, and what the simulators answer: they name the model, and in a header their pod."""

import collections
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from deploy.lab import setting

# Every name that the chart's table has -> the pool's name.
POOLS = {name: pool for base, (pool, adapters) in setting.MODELS.items() for name in (base, *adapters)}
JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"


class Chat(NamedTuple):
    """One request.

    Attributes:
        model: that it names.
        size: about so many bytes.
        last: the model comes last.
        stream: it asks for a stream of events.
        word: what its text is made of. A picker sends texts that begin alike to the same server.
    """

    model: str
    size: int = 1024
    last: bool = False
    stream: bool = False
    word: str = "word"

    def body(self) -> bytes:
        """Return the request body."""
        content = f"{self.word} " * (self.size // (len(self.word) + 1))
        chat = {"messages": [{"role": "user", "content": content}], "stream": self.stream, "max_tokens": 8}
        return json.dumps({**chat, "model": self.model} if self.last else {"model": self.model, **chat}).encode()


def answered_model(answer: httpx.Response) -> str:
    """Return the model that the simulator names: in a stream in each event, and the stream has to end."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.json()["model"]
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events[-1]
    (model,) = {json.loads(event)["model"] for event in events[:-1]}
    return model


def outcome(answer: httpx.Response, model: str) -> str:
    """Return "right", "misrouted ..." or the status of an answer to a request for a model of the table."""
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:120]}"
    found, pod = answered_model(answer), answer.headers["x-inference-pod"]
    if found == model and pod.startswith(f"{POOLS[model]}-server-"):
        return "right"
    return f"misrouted: {model} was answered by {found} on {pod}"


def ask(gateway: str, chat: Chat, **headers: str) -> httpx.Response:
    """Send one request on a connection of its own."""
    return httpx.post(f"http://{gateway}{CHAT}", content=chat.body(), headers=JSON | headers, timeout=60)


@dataclass
class Load:
    """Requests without a pause, by several clients at once; used by `with`, which ends them.

    Attributes:
        gateway: host and port.
        clients: how many.
        models: that the requests name, in turn.
        outcomes: how often what came out, as `outcome` has it; an error by the name of its kind.
    """

    gateway: str
    clients: int = 4
    models: Sequence[str] = tuple(POOLS)
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    _threads: list[threading.Thread] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> int:
        """How many have been answered so far, or have failed."""
        with self._lock:
            return self.outcomes.total()

    def until_sent(self, more: int) -> None:
        """Wait for so many more answers."""
        wanted, until = self.sent + more, time.monotonic() + 600
        while self.sent < wanted:
            assert time.monotonic() < until, f"{more} more answers did not come: {self.outcomes}"
            self._end.wait(0.05)

    @property
    def misrouted(self) -> list[str]:
        """What was answered by another model or pool."""
        return [each for each in self.outcomes if each.startswith("misrouted")]

    @property
    def failed(self) -> int:
        """How many were not answered as they should be."""
        return self.outcomes.total() - self.outcomes["right"]

    def _client(self, number: int) -> None:
        chats = itertools.cycle(Chat(model, size=600 << (index % 5)) for index, model in enumerate(self.models))
        for _ in range(number):
            next(chats)
        with httpx.Client(base_url=f"http://{self.gateway}", headers=JSON, timeout=60) as client:
            while not self._end.is_set():
                chat = next(chats)
                try:
                    found = outcome(client.post(CHAT, content=chat.body()), chat.model)
                except httpx.HTTPError as error:
                    found = type(error).__name__
                with self._lock:
                    self.outcomes[found] += 1
