from pathlib import Path

import pytest

from tests.structure import dependences, layers, units
from tests.support.imports import forbidden, imports

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "bbr").rglob("*.py") if "pb" not in path.parts)

# Rooms that do no I/O, read no clock and never log.
PURE = (
    "bbr/http2/",
    "bbr/rpc/",
    "bbr/reading/",
    "bbr/models/",
    "bbr/exchange/",
    "bbr/budget.py",
    "bbr/refusal.py",
    "bbr/headers.py",
    "bbr/native.py",
    "bbr/pieces.py",
    "bbr/text.py",
    "bbr/yaml_tree.py",
    "bbr/tls/client_names.py",
)
NO_IO = {"asyncio", "socket", "ssl", "time", "random", "logging", "threading", "os"}

# What each room may import, beside itself and the ground floor. Imports point downwards: a room stands below all that
# may import it, so that there is no circle.
GROUND = {"budget", "built", "headers", "native", "pb", "pieces", "refusal", "text", "yaml_tree"}
ROOMS = {
    "system": set(),
    "http2": set(),
    "models": set(),
    "rpc": {"http2"},
    "tls": {"system"},
    "reading": set(),
    "exchange": {"models", "reading", "rpc"},
    "config": {"exchange", "models", "reading", "system", "tls"},
    "sources": {"config", "models", "reading", "system"},
    "telemetry": {"exchange", "models", "reading", "system"},
    "transports": {"exchange", "http2", "rpc", "system", "telemetry", "tls"},
    # One file: settings to a model table and a policy.
    "router": {"config", "exchange", "sources"},
    "admin": {
        "config",
        "exchange",
        "models",
        "reading",
        "sources",
        "system",
        "telemetry",
        "tls",
        "transports",
    },
    # One file: it puts the rooms below it together.
    "server": {
        "admin",
        "config",
        "exchange",
        "models",
        "router",
        "rpc",
        "sources",
        "system",
        "telemetry",
        "tls",
        "transports",
    },
    "commands": {"config", "exchange", "models", "router", "rpc", "server", "sources", "telemetry", "tls"},
}
# What stands above the rooms.
ROOF = ("__main__", "cli")

# Which files may not import what; a name forbids everything below it as well.
RULES = [
    pytest.param(lambda file: file.startswith(PURE), NO_IO, id="the core does no I/O, reads no clock and never logs"),
    pytest.param(
        lambda file: file.startswith("bbr/commands/doctor/") and not file.endswith(("/admin.py", "/diagnose.py")),
        NO_IO,
        id="the doctor's checks do no I/O",
    ),
    pytest.param(
        lambda file: file.startswith(("bbr/http2/", "bbr/rpc/", "bbr/reading/scan/")) and file != "bbr/rpc/health.py",
        {"bbr.pb"},
        id="http2, rpc and scan know no protobuf",
    ),
    pytest.param(
        lambda file: file not in ("bbr/commands/serve.py", "bbr/server.py"),
        {"bbr.server"},
        id="one command imports server",
    ),
    pytest.param(lambda file: file not in ("bbr/cli.py", "bbr/__main__.py"), {"bbr.cli"}, id="nothing imports cli"),
    pytest.param(lambda file: file != "bbr/commands/probe/client.py", {"h2"}, id="one file imports h2"),
    pytest.param(lambda file: file != "bbr/transports/grpcio.py", {"grpc"}, id="one file imports grpc"),
    pytest.param(lambda file: file != "bbr/telemetry/tracing.py", {"opentelemetry"}, id="one imports opentelemetry"),
    pytest.param(
        lambda file: file != "bbr/sources/kube_api.py", {"lightkube", "httpx2"}, id="one file asks an API server"
    ),
    pytest.param(lambda file: file != "bbr/server.py", {"bbr.telemetry.tracing"}, id="server alone imports tracing"),
]


@pytest.mark.parametrize(("applies", "names"), RULES)
def test_rule(applies, names):
    found = {
        str(file): bad
        for file in FILES
        if applies(str(file)) and (bad := forbidden(imports((ROOT / file).read_text("utf-8")), names))
    }
    assert found == {}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_stands_below_it(room):
    allowed = ROOMS[room] | GROUND | {room}
    files = [file for file in FILES if file.parts[1].removesuffix(".py") == room]
    assert files
    found = {str(file): wrong for file in files if (wrong := units(ROOT / file) - allowed)}
    assert found == {}


def test_the_ground_floor_imports_itself_alone():
    found = {name: wrong for name in GROUND - {"pb"} if (wrong := units(ROOT / f"bbr/{name}.py") - GROUND)}
    assert found == {}


def test_every_file_stands_in_a_room():
    names = {file.parts[1].removesuffix(".py") for file in FILES}
    assert names - {"__init__"} == set(ROOMS) | set(ROOF) | GROUND - {"pb"}


def test_imports_point_downwards():
    assert layers(ROOMS)  # or it names a circle
    assert layers(dependences())


def test_rules_find_every_way_to_import():
    source = "import asyncio.events\ndef f():\n    from bbr import server\n    from bbr.server import Server as S\n"
    assert forbidden(imports(source), {"asyncio", "bbr.server"}) == {
        "asyncio.events",
        "bbr.server",
        "bbr.server.Server",
    }
    assert forbidden(imports("import timeit\nfrom bbr import servers"), {"time", "bbr.server"}) == set()


# What starts processes belongs into tests/integration, except for the tests of what has no other purpose.
STARTS_PROCESSES = {
    "subprocess",
    "multiprocessing",
    "concurrent.futures.ProcessPoolExecutor",
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "asyncio.subprocess",
    "bench.harness.processes",
    "tests.support.commands.PYTHON_M",
    "tests.support.commands.SCRIPT",
    "tests.support.commands.run",
    "tests.support.processes",
}
MAY_START_PROCESSES = {
    "tests/unit/reading/test_encodings.py",
    "tests/unit/system/test_child.py",
    "tests/unit/system/test_garbage.py",
    "tests/unit/system/test_worker.py",
    "tests/unit/system/test_worker_process.py",
    "tests/unit/tls/test_apart.py",
}


def test_unit_tests_start_no_processes():
    files = {str(path.relative_to(ROOT)): path for path in (ROOT / "tests" / "unit").rglob("*.py")}
    found = {
        name: bad
        for name, path in files.items()
        if (bad := forbidden(imports(path.read_text("utf-8")), STARTS_PROCESSES))
    }
    # Equal: an exception that nothing needs any more goes.
    assert found.keys() == MAY_START_PROCESSES, found


def mirror(file: Path) -> Path:
    inside = file.relative_to("bbr")
    return Path("tests/unit") / inside.parent / f"test_{inside.name}"


def test_unit_tests_mirror_the_modules():
    modules = {mirror(file) for file in FILES if file.name not in ("__init__.py", "__main__.py")}
    found = {path.relative_to(ROOT) for path in (ROOT / "tests" / "unit").rglob("test_*.py")}
    # These two test what is no module of its own: the generated codec, and the rules of this file.
    extra = {Path("tests/unit/pb/test_wire.py"), Path("tests/unit/test_imports.py")}
    assert found - extra == modules
    assert found >= extra
