import json

import pytest

import bbr.commands.probe.probe
from bbr import cli
from bbr.commands.probe.probe import ProbeOptions, Report
from bbr.commands.probe.wire import Address, Tls
from tests.support.commands import failure


def test_probe_asks_for_what_its_flags_say(monkeypatch, capsys):
    found = []
    monkeypatch.setattr(
        bbr.commands.probe.probe, "probe", lambda options: found.append(options) or Report(options, problems=["no"])
    )
    monkeypatch.setenv("BBR_GRPC_PORT", "nonsense, but of serve's")
    flags = ["--tls", "--tls-ca=a", "--tls-cert=b", "--tls-key=c", "--server-name=d", "--health-addr=[::1]:7"]
    flags += ["--model=m", "--mode=buffered", "--timeout=2.5"]
    assert cli.main(["probe", "--addr=bbr:9004"]) == 1
    assert capsys.readouterr().out == "bbr:9004: unhealthy\n  no.\n"
    assert cli.main(["probe", "--addr=bbr:9004", "--json", *flags]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == ["no"]
    assert cli.main(["probe", "--health-addr=bbr:9005"]) == 1
    assert found.pop() == ProbeOptions(health_address=Address("bbr", 9005))
    assert found == [
        ProbeOptions(address=Address("bbr", 9004)),
        ProbeOptions(
            address=Address("bbr", 9004),
            tls=Tls(ca="a", cert="b", key="c", server_name="d"),
            health_address=Address("::1", 7),
            model="m",
            mode="buffered",
            timeout_seconds=2.5,
        ),
    ]


def test_each_model_is_asked_for_and_one_that_fails_fails_all(monkeypatch, capsys):
    def answered(options):
        return Report(options, problems=["b is not routed"] if options.model == "b" else [])

    monkeypatch.setattr(bbr.commands.probe.probe, "probe", answered)
    assert cli.main(["probe", "--addr=bbr:9004", "--model=a", "--model=b", "--model=c"]) == 1
    assert capsys.readouterr().out.count("bbr:9004: ") == 3
    assert cli.main(["probe", "--addr=bbr:9004", "--model=a", "--model=c"]) == 0


PROBE_MISUSES = {
    "several reports": (["--addr=a:1", "--json", "--model=a", "--model=b"], "--json takes one --model"),
    "no address": ([], "bbr probe: --addr is missing: the address of the ext_proc port"),
    "TLS for health": (["--health-addr=a:1", "--tls"], "--addr is missing"),
    "a model of health": (["--health-addr=a:1", "--model=m"], "--addr is missing"),
    "no port": (["--addr=bbr"], "--addr: 'bbr' is not HOST:PORT.\n"),
    "no host": (["--addr=:9004"], "--addr: ':9004' is not HOST:PORT.\n"),
    "no such port": (["--addr=bbr:65536"], "--addr: 'bbr:65536' is not HOST:PORT.\n"),
    "a port of many digits": (["--addr=bbr:" + "9" * 5000], "...' is not HOST:PORT.\n"),
    "a port in other digits": (["--addr=bbr:٣"], "--addr: 'bbr:٣' is not HOST:PORT.\n"),
    "a model that is not UTF-8": (["--addr=a:1", "--model=\udcff"], r"--model: '\udcff' is not UTF-8"),
    "bare IPv6": (["--addr=::1:9004"], "--addr: '::1:9004' is not HOST:PORT.\n"),
    "an address of health": (["--addr=a:1", "--health-addr=a"], "--health-addr: 'a' is not HOST:PORT.\n"),
    "TLS unsaid": (["--addr=a:1", "--tls-ca=x"], "--server-name need --tls.\n"),
    "half a pair": (["--addr=a:1", "--tls", "--tls-cert=x"], "--tls-cert and --tls-key belong together"),
    "no file": (["--addr=a:1", "--tls", "--tls-ca=/none"], "can't be used: No such file or directory.\n"),
    "no time": (["--addr=a:1", "--timeout=0"], "--timeout: '0' "),
    "another mode": (["--addr=a:1", "--mode=x"], "--mode: invalid choice"),
    "a flag of serve": (["--addr=a:1", "--grpc-port=1"], "--grpc-port=1 is not a flag of `bbr probe`"),
}


@pytest.mark.parametrize(("arguments", "part"), PROBE_MISUSES.values(), ids=PROBE_MISUSES)
def test_probe_misuse_is_one_sentence(capsys, arguments, part):
    code, sentence = failure(capsys, "probe", *arguments)
    assert code == 2
    assert part in sentence
