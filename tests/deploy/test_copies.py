"""What the chart has copies of: whole, no links, and found where they differ."""

import sys

import pytest
import yaml

from bbr import cli
from bbr.config import go_flags
from deploy.render import copies, helm

# Flags of the Go routers, which are read before ours, with a value that each takes.
VALUES = {
    "config-file": "",
    "config-text": "",
    "enable-pprof": "true",
    "plugin": "base-model-to-header:x",
    "streaming": "true",
    "v": "1",
    "zap-devel": "true",
}


def test_the_charts_are_up_to_date():
    assert copies.outdated() == []


def test_the_list_of_flags_is_what_serve_takes():
    names = yaml.safe_load(copies.FLAGS.read_text())
    assert copies.FLAGS.read_text() == copies.flags()
    line = go_flags.read(["serve", *(f"--{name}=x" for name in names if name not in VALUES)], {})
    assert cli.parser(["serve"]).parse_known_args(line.arguments)[1] == []
    for name, value in VALUES.items():
        assert (
            cli.parser(["serve"]).parse_known_args(go_flags.read(["serve", f"--{name}={value}"], {}).arguments)[1] == []
        )
    assert set(VALUES) < set(names)


@pytest.mark.parametrize("stale", [True, False])
def test_a_list_of_flags_that_is_out_of_date_fails_the_check(tmp_path, monkeypatch, capsys, stale):
    monkeypatch.setattr(copies, "FLAGS", flags := tmp_path / "flags.yaml")
    flags.write_text(copies.flags() + "- more\n" * stale)
    monkeypatch.setattr(sys, "argv", ["copies", "--check"])
    assert copies.main() == stale
    assert ("flags.yaml is out of date: run make manifests" in capsys.readouterr().err) is stale


def test_the_chart_has_no_link():
    assert [file for file in helm.CHART.rglob("*") if file.is_symlink()] == []


@pytest.mark.parametrize("change", ["changed", "missing", "more", "link"])
def test_one_that_is_out_of_date_is_named_and_written_anew(tmp_path, change):
    copies.write(directory := tmp_path / "dashboards")
    assert copies.outdated(directory) == []
    wrong = directory / ("other.json" if change == "more" else "bbr.json")
    if change in ("missing", "link"):
        wrong.unlink()
    if change == "link":
        (target := tmp_path / "bbr.json").write_bytes((copies.SOURCE / "bbr.json").read_bytes())
        wrong.symlink_to(target)
    elif change != "missing":
        wrong.write_text("{}\n")
    assert copies.outdated(directory) == [wrong.name]
    copies.write(directory)
    assert copies.outdated(directory) == []
    assert sorted(file.name for file in directory.iterdir()) == ["alerts.yaml", "bbr.json"]
