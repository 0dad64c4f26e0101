import json

import pytest

import bbr.commands.doctor.command
from bbr import cli
from tests.support.commands import failure


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen, adapters: [sql]}]", encoding="utf-8")
    return path


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "config_dump.json"
    path.write_text('{"configs": []}', encoding="utf-8")
    return path


def test_doctor_reads_what_was_saved(capsys, dump):
    assert cli.main(["doctor", "--from", str(dump), "--json"]) == 1
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["router-not-found"]
    assert cli.main(["doctor", f"--from={dump.parent}"]) == 1
    assert "ERROR  router-not-found  (gateway)\n" in capsys.readouterr().out


def test_doctor_takes_the_routers_settings(monkeypatch, models):
    found = []
    monkeypatch.setattr(
        bbr.commands.doctor.command, "diagnose", lambda *args, **options: found.append((*args, options)) or ("", 0)
    )
    arguments = [f"--models={models}", "--max-body-bytes=1MiB", "--secure-serving=false", "--filter=x"]
    assert cli.main(["doctor", "--envoy-admin=http://a:1", *arguments]) == 0
    ((settings, options),) = found
    assert (settings.models, settings.max_body_bytes, settings.secure_serving) == (models, 1 << 20, False)
    assert options == {"url": "http://a:1", "saved": None, "router": "x", "as_json": False}


DOCTOR_FAILURES = {
    "no gateway": ([], "bbr doctor: give --envoy-admin or --from. See `bbr doctor --help`.\n"),
    "no URL": (
        ["--envoy-admin=localhost"],
        "bbr doctor: --envoy-admin: 'localhost' is not a URL such as http://127.0.0.1:19000.\n",
    ),
    "no file": (["--from=/none/such"], "bbr doctor: /none/such: No such file or directory.\n"),
    "a wrong table": (
        ["--from=DUMP", "--models=DUMP"],
        "bbr doctor: file DUMP: line 1: the file has the unknown key configs; known: aliases, allow, models",
    ),
    "a setting of serve": (
        ["--from=DUMP", "--grpc-port=1"],
        "bbr doctor: --grpc-port=1 is not a flag of `bbr doctor`; see `bbr doctor --help`.\n",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), DOCTOR_FAILURES.values(), ids=DOCTOR_FAILURES)
def test_doctor_misuse_is_one_sentence(capsys, dump, arguments, sentence):
    status, text = failure(capsys, "doctor", *[each.replace("DUMP", str(dump)) for each in arguments])
    assert status == 2
    assert text.startswith(sentence.replace("DUMP", str(dump)))
