"""Seeded attacks on the pools, and runs with a router that must be caught: so the check is known to be able to fail."""

import pytest

from bbr.exchange.convention import Ours
from bbr.exchange.replies import Replies
from bbr.pb.ext_proc_pb2 import BodyResponse, HeadersResponse
from bench.harness.in_process_router import PHI, QWEN
from bench.trials import spoofing
from bench.trials.spoofing_attacks import DEFAULT, NOBODY, Attacks, truth
from tests.support.tools import needs_envoy

SEED = 20
REQUESTS = 300


class KeepsRoutes(Ours):
    """Answers as the router does, but leaves the route that was chosen by the client's own headers."""

    def unread_headers(self) -> HeadersResponse:
        return keeping(super().unread_headers())

    def headers(self, model: str | None, base_model: str | None, size: int | None) -> HeadersResponse:
        return keeping(super().headers(model, base_model, size))

    def body(self, model: str | None, base_model: str | None) -> BodyResponse:
        return keeping(super().body(model, base_model))


def keeping(answer):
    answer.response.clear_route_cache = False
    return answer


def attacks(seed: str) -> Attacks:
    return Attacks(seed, spoofing.MODELS, "127.0.0.1:1")


def test_same_seed_same_sessions():
    assert [attacks("1").session(number) for number in range(50)] == [attacks("1").session(n) for n in range(50)]
    assert attacks("1").session(0) != attacks("2").session(0)


def test_attacks_are_of_every_kind():
    sent = [attack for number in range(1500) for attack in attacks("1").session(number).attacks]
    kinds = {attack.kind.partition(",")[0] for attack in sent}
    assert {"a model", "no model", "empty", "binary", "too large", "two models", "broken JSON", "a form"} <= kinds
    assert {"GET", "HEAD", "DELETE", "OPTIONS", "CONNECT", "an upgrade", "a smuggled request"} <= kinds
    assert {attack.expected for attack in sent} == {"", NOBODY, DEFAULT, QWEN, PHI}
    assert all(any(attack.kind.endswith(end) for attack in sent) for end in (", trailers", ", cut off"))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"model": "sql-lora"}', ("sql-lora", QWEN)),
        (b'{"tools": [{"model": "x"}], "m\\u006fdel": "sql-lora"}', ("sql-lora", QWEN)),
        (b'{"model": "sql-lora", "model": "sql-lora"}', None),
        (b'{"tools": [{"model": "sql-lora"}]}', None),
        (b'[{"model": "sql-lora"}]', None),
        (b'{"model": "SQL-LORA"}', None),
        (b'{"model": 7}', None),
        (b'{"model": "sql-lora"', None),
        ('{"model": "sql-lora"}'.encode("utf-16"), None),
        (b"", None),
    ],
)
def test_truth(body, named):
    assert truth(body, spoofing.MODELS) == named


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"model=sql-lora&prompt=x", ("sql-lora", QWEN)),
        (b"prompt=x&model=Qwen%2FQwen2.5-3B-Instruct", (QWEN, QWEN)),
        (b'{"model": "sql-lora"}', ("sql-lora", QWEN)),
        (b"prompt=x", None),
        (b"model=nobody", None),
        (b"model=sql-lora&model=sql-lora", None),
        (b"\xff\x00", None),
        (b"", None),
    ],
)
def test_truth_of_a_form(body, named):
    assert truth(body, spoofing.MODELS, form=True) == named


class TestWithEnvoy:
    pytestmark = needs_envoy

    @pytest.mark.parametrize("gateway", spoofing.GATEWAYS)
    def test_nothing_gets_through(self, gateway):
        result = spoofing.run(gateway, requests=REQUESTS, seed=SEED)
        assert result.faults == [], str(result)
        assert result.requests >= REQUESTS
        assert {QWEN, DEFAULT} <= result.arrived.keys()
        assert spoofing.TRAP not in result.arrived

    def test_from_the_command_line(self, capsys):
        command = ["--seed", str(SEED), "--gateway", "full-duplex", "--kinds"]
        assert spoofing.main([*command, "--requests", "40"]) == 0
        said = capsys.readouterr().out
        assert f"seed {SEED}" in said
        assert "GET, no body" in said
        assert spoofing.main([*command, "--only", "3"]) == 0
        assert "on 1 connections" in capsys.readouterr().out

    def test_fault_is_told_with_its_session(self, monkeypatch, capsys):
        monkeypatch.setattr(spoofing, "Replies", lambda: Replies(Ours(trust_client_headers=True)))
        command = ["--seed", str(SEED), "--gateway", "buffered", "--requests", "60"]
        assert spoofing.main(command) == 1
        assert "repeat it alone with --gateway, --seed and --only" in capsys.readouterr().out

    def test_trailers_are_stripped(self):
        assert spoofing.run("full-duplex", requests=100, seed=SEED).trailers == 0

    @pytest.mark.parametrize("gateway", ["full-duplex", "buffered"])
    @pytest.mark.parametrize(
        "convention",
        [
            pytest.param(lambda: Ours(trust_client_headers=True), id="trusts"),
            pytest.param(KeepsRoutes, id="keeps routes", marks=pytest.mark.interpreted("inherits a convention")),
            pytest.param(lambda: Ours(strip_headers=()), id="strips too little"),
        ],
    )
    def test_lax_router_is_caught(self, gateway, convention):
        result = spoofing.run(gateway, requests=100, seed=SEED, replies=Replies(convention()))
        assert any("which its body does not name" in fault or "received x-gateway" in fault for fault in result.faults)
        assert spoofing.TRAP in result.arrived
