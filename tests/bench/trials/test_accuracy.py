import functools
import json

import pytest

from bench.trials import accuracy
from bench.trials.accuracy_requests import Mix, write_table
from deploy.local.gateway import TEMPLATE
from deploy.local.stack import StackOptions
from tests.support.tools import needs_envoy

SEED = 20


def test_same_seed_same_requests():
    mixes = [list(Mix(SEED, http2_share=0.5).requests(40)) for _ in range(2)]
    assert [(one.body, one.path, http2) for one, http2 in mixes[0]] == [
        (one.body, one.path, http2) for one, http2 in mixes[1]
    ]
    assert mixes[0] != list(Mix(SEED + 1, http2_share=0.5).requests(40))


class TestWithEnvoy:
    pytestmark = needs_envoy

    @pytest.mark.parametrize("mode", accuracy.BODY_MODES)
    def test_300_requests(self, mode, tmp_path, capsys):
        kept = tmp_path / "kept.json"
        command = ["--requests", "300", "--seed", str(SEED), "--mode", mode, "--log-dir", str(tmp_path)]
        status = accuracy.main([*command, "--json", str(kept)])
        said = capsys.readouterr().out
        assert status == 0, said
        assert all(name in said for name in ("GET", "broken JSON", "zstd", "alias", "multipart form", "HTTP/2"))
        rows = json.loads(kept.read_text())["rows"]
        sent = {row["facts"]["kind"]: row["median"] for row in rows if row["unit"] == "requests"}
        assert sent.pop("all") < 300  # of one protocol
        assert sum(sent.values()) == 300
        assert {row["facts"]["mode"] for row in rows} == {accuracy.BODY_MODES[mode]}
        assert not any(row["median"] for row in rows if row["unit"] != "requests")

    def test_through_the_demo(self, tmp_path, capsys):
        command = ["--demo", "--requests=60", f"--seed={SEED}", "--mode=full-duplex", f"--log-dir={tmp_path}"]
        status = accuracy.main(command)
        said = capsys.readouterr().out
        assert status == 0, said
        assert "alias" not in said

    def test_misroutes_are_counted_as_such(self, tmp_path, monkeypatch, capsys):
        def swapped(path):
            write_table(path)
            text = path.read_text().replace("travel-lora", "other")
            path.write_text(text.replace("sql-lora", "travel-lora").replace("other", "sql-lora"))

        monkeypatch.setattr(accuracy, "write_table", swapped)
        command = ["--requests", "60", "--seed", str(SEED), "--mode", "full-duplex", "--log-dir", str(tmp_path)]
        assert accuracy.main(command) == 1
        assert "must reach phi-pool" in capsys.readouterr().out

    def test_wrong_answers_are_found(self, tmp_path, monkeypatch, capsys):
        models = tmp_path / "models.yaml"
        models.write_text((TEMPLATE.parent / "models.yaml").read_text().replace("travel-lora", "another-lora"))
        monkeypatch.setattr(accuracy, "StackOptions", functools.partial(StackOptions, models=models))
        command = ["--requests", "60", "--seed", str(SEED), "--mode", "full-duplex", "--log-dir", str(tmp_path)]
        assert accuracy.main([*command, "--demo"]) == 1
        assert "WRONG all" in capsys.readouterr().out
