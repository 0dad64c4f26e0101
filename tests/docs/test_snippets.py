"""What readers copy works: commands parse, model files are valid, and examples print what the page says."""

import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from bbr import cli
from bbr.config import go_flags

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
COMMANDS = "|".join(cli.COMMANDS)
# What a block of commands may begin with, as far as one of the pages has it.
PROGRAMS = {
    "bbr",
    "curl",
    "docker",
    "gcloud",
    "git",
    "helm",
    "istioctl",
    "kind",
    "kubectl",
    "make",
    "python",
    "python3",
}


def blocks(text: str, language: str) -> list[str]:
    """Return a page's fenced blocks in a language; "" for those that name none."""
    found = re.findall(r"^( *)```([a-z]*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, name, body in found if name == language]


def is_shell(block: str) -> bool:
    first = re.sub(r"^(?:[A-Z_]+=\S* )*", "", block.split("\n", 1)[0])
    word = first.split(" ", 1)[0].removeprefix(".venv/bin/")
    return word in PROGRAMS or bool(re.match(r"(?:export )?[A-Z]+=", block))


SHELL = [(page, block) for page, text in PAGES.items() for block in blocks(text, "") if is_shell(block)]


@pytest.mark.parametrize(("page", "block"), SHELL, ids=[f"{page}-{index}" for index, (page, _) in enumerate(SHELL)])
def test_a_block_of_commands_is_shell(page, block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), page


def command_lines() -> list[tuple[str, str]]:
    """Return each command line of bbr with an argument that a page has, in a block or between backticks."""
    found = []
    for page, text in PAGES.items():
        joined = text.replace("\\\n", " ")
        inline = [" ".join(each.split()) for each in re.findall(r"(?<!`)`(bbr [^`]+)`(?!`)", joined)]
        lines = [line for block in blocks(joined, "") for line in block.splitlines()]
        found += [
            (page, match[0])
            for line in [*inline, *lines]
            for match in re.finditer(rf"(?<![\w/.-])bbr (?:{COMMANDS}) [^|&#\n]+", line)
            if "..." not in match[0] and "--help" not in match[0]
        ]
    return found


LINES = command_lines()


def test_pages_have_command_lines():
    assert len(LINES) >= 20
    assert {line.split()[1] for _, line in LINES} >= {"serve", "check", "models", "explain", "probe", "doctor"}


@pytest.mark.parametrize(("page", "line"), sorted(set(LINES)))
def test_a_command_line_parses(page, line, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = shlex.split(line.replace("bash|zsh|fish", "bash"))[1:]
    read = go_flags.read(words, {})
    _, unknown = cli.parser(read.arguments[:1]).parse_known_args(read.arguments)
    assert unknown == [], page


def model_files() -> list[tuple[str, str]]:
    """Return the blocks of YAML that are whole model files."""
    return [
        (page, block)
        for page in ("models", "access", "scopes")
        for block in blocks(PAGES[f"docs/reference/{page}.md"], "yaml")
        if re.match(r"(?:# models\.yaml\n)?models:", block) and "pool:" not in block
    ]


FILES = model_files()


@pytest.mark.parametrize(("page", "text"), FILES, ids=[f"{page}-{index}" for index, (page, _) in enumerate(FILES)])
def test_a_model_file_is_valid(page, text, tmp_path, capsys):
    (file := tmp_path / "models.yaml").write_text(text)
    assert cli.main(["check", str(file)]) == 0, page
    assert capsys.readouterr().err == ""


def test_each_page_of_the_table_has_a_model_file():
    assert {page for page, _ in FILES} == {"models", "access", "scopes"}


def transcripts() -> list[tuple[str, str]]:
    """Return the examples of the page of commands that need nothing but a model file: the command and its output."""
    found = [block.split("\n", 1) for block in blocks(PAGES["docs/reference/commands.md"], "") if block[:2] == "$ "]
    return [(command[2:], output) for command, output in found if "bbr probe" not in command]


def test_examples_are_of_three_commands():
    assert sorted(re.findall(r"bbr (\w+)", " ".join(command for command, _ in transcripts()))) == [
        "check",
        "explain",
        "models",
    ]


@pytest.mark.parametrize(("command", "output"), transcripts())
def test_an_example_prints_what_the_page_says(command, output, tmp_path, monkeypatch, capsys):
    (file,) = [text for text in blocks(PAGES["docs/reference/models.md"], "yaml") if text.startswith("# models.yaml")]
    (tmp_path / "models.yaml").write_text(file)
    monkeypatch.chdir(tmp_path)
    if fed := re.match(r"echo '([^']*)' \| ", command):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(fed[1].encode()), "utf-8"))
        command = command[fed.end() :]
    assert cli.main(shlex.split(command)[1:]) == 0
    printed, said = ([line.split() for line in text.splitlines()] for text in (capsys.readouterr().out, output))
    # Columns are as wide as the longest name, and "..." stands for what follows.
    assert printed[: len(said) - 1] == said[:-1] if said[-1] == ["..."] else printed == said
