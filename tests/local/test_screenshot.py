import struct

from deploy.local import browser, screenshot
from tests.support.tools import needs, needs_envoy

PNG = b"\x89PNG\r\n\x1a\n"


def size(png):
    assert png.startswith(PNG)
    return struct.unpack(">II", png[16:24])


def test_the_committed_picture_is_small():
    png = screenshot.PICTURE.read_bytes()
    assert size(png)[0] == screenshot.WIDTH
    assert len(png) < 200_000


class TestWithEnvoy:
    pytestmark = needs_envoy

    @needs("chromium")
    def test_a_picture_is_taken_under_requests(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(screenshot, "LOAD_SECONDS", 0.5)
        output = tmp_path / "docs" / "page.png"
        assert screenshot.main(["--dark", "--output", str(output)]) == 0
        width, height = size(output.read_bytes())
        assert width == screenshot.WIDTH
        assert height > 900
        assert str(output) in capsys.readouterr().out

    def test_without_chromium_there_is_none(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(browser, "PROGRAM", "no-such-browser")
        output = tmp_path / "page.png"
        assert screenshot.main(["--output", str(output)]) == 1
        assert "No picture: there is no program no-such-browser" in capsys.readouterr().err
        assert not output.exists()
