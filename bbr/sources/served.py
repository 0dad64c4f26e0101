"""What a model server says that it serves: its answer to GET /v1/models, as vLLM has it.

{"data": [{"id": "qwen", "root": "/models/qwen", "parent": null}, {"id": "sql-lora", "parent": "qwen"}]}

A model without a parent is a base model, or another name for one: vLLM gives all of them the same root. A model with a
parent is an adapter. Nothing of it is trusted: a server speaks for the base models that its pool serves, and only if it
lists them.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

import msgspec

from bbr.models.patterns import is_pattern
from bbr.reading.name import check_model
from bbr.refusal import Refusal
from bbr.system.worker_process import WorkerProcess
from bbr.text import printable

# Of one server. A longer list is no list of adapters that fit into a server, and is refused whole.
MAX_MODELS: Final = 1_000

# Of a server, sentences about names that can't be used.
MAX_REFUSED: Final = 10

# A longer answer is read by another process. So much takes 0.3 ms.
LONG_BYTES: Final = 65_536

# Of a name that people are shown.
_SHOWN: Final = 80


class UnusableError(Exception):
    """An answer can't be used; the message says why, in the server's own words nowhere."""


class Served(NamedTuple):
    """What a server lists.

    Attributes:
        roots: its base models, by name, each with its root.
        adapters: by name, each with its parent.
    """

    roots: dict[str, str]
    adapters: dict[str, str]


class Claims(NamedTuple):
    """What a server may speak for.

    Attributes:
        adapters: by base model of its pool.
        refused: sentences about adapters that it lists and can't be used, the first MAX_REFUSED.
    """

    adapters: dict[str, frozenset[str]]
    refused: tuple[str, ...] = ()

    @property
    def names(self) -> int:
        """How many adapters it claims."""
        return sum(map(len, self.adapters.values()))


class _Model(msgspec.Struct):
    id: str
    root: str | None = None
    parent: str | None = None


class _List(msgspec.Struct):
    data: list[_Model]


async def read(pieces: list[bytes], worker: WorkerProcess) -> Served:
    """Return what an answer lists.

    Raises:
        UnusableError: it is not a list of models, or lists too many.
        WorkerError: the other process can't work just now.
    """
    if sum(map(len, pieces)) <= LONG_BYTES:
        return served(b"".join(pieces))
    frames: list[bytes] = []
    await worker.run(frames_of, pieces, frames.append)
    why, roots, adapters = (msgspec.msgpack.decode(frame) for frame in frames)
    if why:
        raise UnusableError(why)
    return Served(roots, adapters)


def frames_of(data: bytes) -> Iterator[bytes]:
    """Give an answer in frames: why it can't be used or "", its base models, its adapters. A job."""
    try:
        found: tuple[object, ...] = ("", *served(data))
    except UnusableError as error:
        found = (str(error), {}, {})
    return map(msgspec.msgpack.encode, found)


def served(data: bytes) -> Served:
    """Return what an answer lists; see `read`."""
    try:
        models = msgspec.json.decode(data, type=_List).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UnusableError("its answer to GET /v1/models is not a list of models") from None
    if len(models) > MAX_MODELS:
        raise UnusableError(f"it lists {len(models)} models; at most {MAX_MODELS} are taken from one server")
    roots = {model.id: model.root or "" for model in models if model.parent is None}
    return Served(roots, {model.id: model.parent for model in models if model.parent is not None})


def claims(found: Served, base_models: Iterable[str], max_model_bytes: int) -> Claims:
    """Return what a server may speak for.

    Args:
        found: what it lists.
        base_models: those that its pool serves.
        max_model_bytes: a longer name is refused.

    Raises:
        UnusableError: it lists none of the base models.
    """
    own = dict.fromkeys(sorted(name for name in base_models if name in found.roots))
    if not own:
        wanted = ", ".join(map(_shown, sorted(base_models)[:3]))
        raise UnusableError(f"it does not list the base model of its pool ({wanted})")
    by_root = {found.roots[name]: name for name in reversed(own) if found.roots[name]}
    adapters: dict[str, set[str]] = {}
    refused: list[str] = []
    for name, parent in found.adapters.items():
        base = parent if parent in own else by_root.get(found.roots.get(parent, ""))
        if name in found.roots or (base is None and len(refused) >= MAX_REFUSED):
            continue
        if why := _unusable(name, partial(check_model, max_model_bytes=max_model_bytes)):
            refused.append(f"{_shown(name)}: {why}")
        elif base is None:
            refused.append(f"{_shown(name)}: it is an adapter of {_shown(parent)}, which the pool does not serve")
        else:
            adapters.setdefault(base, set()).add(name)
    return Claims({base: frozenset(names) for base, names in adapters.items()}, tuple(refused[:MAX_REFUSED]))


def _unusable(name: str, check: Callable[[str], object]) -> str:
    if is_pattern(name):
        return "it holds a *, which stands for other characters"
    try:
        check(name)
    except Refusal as refused:
        return refused.about("it")
    return ""


def _shown(name: str) -> str:
    return printable(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")
