"""What the local stack consists of: two pools of two model servers each, and which part listens where."""

import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

MODELS: Final = Path(__file__).with_name("models.yaml")

# Below Linux's range for outgoing connections (32768 and up), so that no client socket takes one between the check and
# the bind.
_FREE_RANGE: Final = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Pool:
    """An InferencePool.

    Attributes:
        name: also the name of its route in envoy.yaml.
        base_model: the one model that its servers serve, its adapters aside.
        picker: its endpoint picker; also the name of the picker's cluster in envoy.yaml.
        pods: its model servers.
    """

    name: str
    base_model: str
    picker: str
    pods: tuple[str, ...]


POOLS: Final = (
    Pool("qwen-pool", "Qwen/Qwen2.5-3B-Instruct", "epp-qwen", ("qwen-1", "qwen-2")),
    Pool("phi-pool", "microsoft/Phi-3-mini-4k-instruct", "epp-phi", ("phi-1", "phi-2")),
)

# The ports that envoy.yaml names. The keys are how messages call the parts.
DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "gateway": 18080,
    "gateway-admin": 18081,
    "router": 18090,
    "router-health": 18091,
    "router-admin": 18092,
    "epp-qwen": 18100,
    "qwen-1": 18101,
    "qwen-2": 18102,
    "epp-phi": 18110,
    "phi-1": 18111,
    "phi-2": 18112,
}


def load_adapters(path: Path = MODELS) -> dict[str, tuple[str, ...]]:
    """Return base model -> adapters of a model table."""
    table = yaml.safe_load(path.read_text())
    return {model["name"]: tuple(model.get("adapters") or ()) for model in table["models"]}


def pool_of(base_model: str) -> Pool:
    """Return the pool that serves `base_model`."""
    return next(pool for pool in POOLS if pool.base_model == base_model)


def free_ports(names: Iterable[str] = tuple(DEFAULT_PORTS)) -> dict[str, int]:
    """Choose a port for each name that nothing listens on at this moment."""
    candidates = random.sample(_FREE_RANGE, len(_FREE_RANGE))
    return {name: next(port for port in iter(candidates.pop, None) if not in_use(port)) for name in names}


def in_use(port: int) -> bool:
    """Tell whether something listens on the port of the loopback address, or of all addresses.

    Asked before anything starts: Envoy binds with SO_REUSEPORT, so two Envoys would share a port without a word.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
