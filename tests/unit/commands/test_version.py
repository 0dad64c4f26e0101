import json
import platform

from bbr import __version__, built, cli


def test_version(capsys):
    assert cli.main(["version"]) == 0
    system = f"{platform.system()} {platform.machine()}"
    said = f"bbr {__version__} ({built.HOW}), Python {platform.python_version()}, {system}\n"
    assert capsys.readouterr() == (said, "")


def test_version_as_json(capsys):
    assert cli.main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == __version__
    assert found["build"] == built.HOW
    assert found.keys() == {"version", "build", "python", "system"}
