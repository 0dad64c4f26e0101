import subprocess
import sys

from bbr.system import child


def test_it_finds_what_this_process_finds_and_nothing_in_its_working_directory(tmp_path, monkeypatch):
    found, here = tmp_path / "found", tmp_path / "here"
    for folder in (found, here):
        folder.mkdir()
    (found / "said.py").write_text("import sys\nprint(*sys.argv[1:])", encoding="utf-8")
    (here / "sys_too.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(found)])
    monkeypatch.chdir(here)

    def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command, environment = child.python(module, *arguments)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert run("said", "a", "b c").stdout == "a b c\n"
    assert "No module named sys_too" in run("sys_too").stderr
