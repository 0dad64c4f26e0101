"""The image's files, and that check.py can fail; the image itself is built by `make image-test`."""

import json
import os
import re
import subprocess
import tomllib

import pytest

from bbr import cli
from bbr.commands.exits import EXIT_FAILED
from bench.harness.ports import free_port
from tests.image import check

ROOT = check.ROOT
DOCKERFILES = ["Dockerfile", "deploy/local/Dockerfile"]


def instructions(dockerfile):
    """Return the instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / dockerfile).read_text(), flags=re.MULTILINE)
    return [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_all_that_is_copied_is_there_and_let_into_the_context(dockerfile):
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        source
        for name, arguments in instructions(dockerfile)
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source == each or source.startswith(f"{each}/") for each in let_in), source


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_nothing_is_installed_without_its_hash_or_runs_as_root(dockerfile):
    found = instructions(dockerfile)
    installs = [arguments for _, arguments in found if "pip install" in arguments]
    assert installs
    for install in installs:
        assert "--require-hashes" in install
        assert "--only-binary :all:" in install
    assert [arguments for name, arguments in found if name == "USER"] == ["65532:65532"]


def test_it_is_compiled_and_the_compiler_stays_in_the_build_stage():
    found = instructions("Dockerfile")
    stages = [place for place, (name, _) in enumerate(found) if name == "FROM"]
    build, final = found[: stages[-1]], found[stages[-1] :]
    (compiles,) = [arguments for name, arguments in build if name == "RUN" and "BBR_COMPILE=1" in arguments]
    assert "hatchling build --target wheel" in compiles
    assert compiles.endswith("/out/opt/bbr")
    (tools,) = [arguments for name, arguments in build if "build.lock" in arguments and name == "RUN"]
    assert "--target /tools" in tools
    # Nothing runs in the final stage, and it takes nothing but what is made to be taken.
    assert [arguments for name, arguments in final if name in ("RUN", "COPY", "ADD")] == ["--from=build /out/ /"]


def pins(lock):
    """Return name -> version of a lock file."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_it_is_compiled_with_what_the_gate_compiles_with():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    wanted = [*project["build-system"]["requires"], *hook["compile-dependencies"]]
    listed = (ROOT / "deploy" / "image" / "build.in").read_text().splitlines()[1:]
    assert sorted(listed) == sorted(re.split(r"[>=]", each)[0] for each in wanted)
    locked = pins("deploy/image/build.lock")
    assert set(listed) <= locked.keys()
    assert locked.items() <= pins("requirements-dev.lock").items()


def test_health_check_is_a_command_of_ours(capsys):
    (arguments,) = [arguments for name, arguments in instructions("Dockerfile") if name == "HEALTHCHECK"]
    program, *flags = json.loads(arguments.partition("CMD ")[2])
    assert program == "/bbr"
    port = free_port()
    assert cli.main([each.replace(":9005", f":{port}") for each in flags]) == EXIT_FAILED
    assert "Connection refused" in capsys.readouterr().out


def test_build_without_an_engine_says_so():
    command = [str(ROOT / "deploy" / "image" / "build.sh"), "bbr"]
    done = subprocess.run(
        command, env={**os.environ, "ENGINE": "none"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "neither a docker that answers nor buildah" in done.stderr


def put(tree, path, octets=b"x", mode=0o644):
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(octets)
    file.chmod(mode)


@pytest.fixture
def trees(tmp_path):
    """Return an image's tree that is as it should be, and its base's."""
    image, base = tmp_path / "image", tmp_path / "base"
    for tree in (image, base):
        put(tree, "etc/hostname")
    put(image, "bbr", mode=0o755)
    put(image, "opt/bbr/bbr/cli.py")
    put(image, "opt/bbr/bbr/http2/frames.cpython-311-x86_64-linux-gnu.so")
    return image, base


def test_contents_as_they_should_be(trees):
    check.check_contents(*trees)


SPOILT = {
    "a file elsewhere": lambda image, _: put(image, "etc/passwd"),
    "a file of the base changed": lambda image, _: put(image, "etc/hostname", b"y"),
    "a file of the base gone": lambda _, base: put(base, "bin/python"),
    "too large": lambda image, _: put(image, "opt/bbr/large", bytes(check.MAX_BYTES)),
    "interpreted": lambda image, _: (image / "opt/bbr/bbr/http2/frames.cpython-311-x86_64-linux-gnu.so").unlink(),
    "the compiler's package": lambda image, _: put(image, "opt/bbr/mypyc/build.py"),
    "a compiler": lambda image, base: [put(tree, "usr/bin/x86_64-linux-gnu-gcc-12") for tree in (image, base)],
    "a linker": lambda image, base: [put(tree, "usr/bin/ld") for tree in (image, base)],
    "writable for others": lambda image, _: put(image, "opt/bbr/open", mode=0o666),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_contents_that_are_not_end_the_check(trees, spoil, capsys):
    spoil(*trees)
    with pytest.raises(SystemExit):
        check.check_contents(*trees)
    assert capsys.readouterr().out.count("NO") == 1


@pytest.mark.parametrize(("required", "status"), [("curl", 0), ("curl buildah", 1)])
def test_without_the_tools_nothing_is_tried_unless_it_must(monkeypatch, capsys, required, status):
    monkeypatch.setattr(check, "missing", lambda: "buildah not installed")
    monkeypatch.setattr("sys.argv", ["check"])
    monkeypatch.setenv("REQUIRE_TOOLS", required)
    assert check.main() == status
    assert capsys.readouterr().out == "The image is not tried: buildah not installed.\n"
