"""What a process loads, and beside what it can be loaded."""

import subprocess
import sys

import pytest

from tests.support.commands import PYTHON_M, run


def test_a_command_that_is_not_asked_for_is_not_loaded():
    found = run([PYTHON_M[0], "-X", "importtime", *PYTHON_M[1:]], "models", "--help").stderr
    assert "bbr.sources.description" in found  # which models imports
    assert not [name for name in ("bbr.server", "bbr.commands.doctor", "bbr.commands.probe", "uvloop") if name in found]


COLLIDE = """
from google.protobuf import descriptor_pb2, descriptor_pool

def add_theirs():
    for package, file, message in (
        ("envoy.service.ext_proc.v3", "envoy/service/ext_proc/v3/external_processor.proto", "ProcessingRequest"),
        ("envoy.config.core.v3", "envoy/config/core/v3/base.proto", "HeaderValue"),
        ("grpc.health.v1", "grpc/health/v1/health.proto", "HealthCheckRequest"),
    ):
        proto = descriptor_pb2.FileDescriptorProto(name=file, package=package, syntax="proto3")
        proto.message_type.add(name=message).field.add(name="other", number=1, type=9, label=1)
        descriptor_pool.Default().Add(proto)

def import_ours():
    from bbr.pb import ext_proc_pb2, health_pb2

FIRST()
SECOND()
from bbr.pb import ext_proc_pb2, health_pb2
pool = descriptor_pool.Default()
assert pool.FindMessageTypeByName("envoy.service.ext_proc.v3.ProcessingRequest").fields_by_name.keys() == ["other"]
message = ext_proc_pb2.ProcessingRequest(request_body={"body": b"x"})
assert ext_proc_pb2.ProcessingRequest.FromString(message.SerializeToString()) == message
health_pb2.HealthCheckRequest(service="x")
"""


@pytest.mark.parametrize(
    ("first", "second"), [("add_theirs", "import_ours"), ("import_ours", "add_theirs")], ids=["before", "after"]
)
def test_a_process_may_hold_envoys_own_protos_too(first, second):
    code = COLLIDE.replace("FIRST", first).replace("SECOND", second)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_no_option_asks_for_is_not_loaded():
    code = "import sys, bbr.commands.serve, bbr.server, bbr.transports.uv; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "msgspec" in loaded
    assert not loaded & {"cryptography", "grpc", "httpx2", "lightkube", "opentelemetry", "prometheus_client", "yaml"}
