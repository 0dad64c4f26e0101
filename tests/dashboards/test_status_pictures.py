import io

import PIL.Image
import pytest

from tests.dashboards import status_pictures
from tests.support.tools import needs

FILES = [
    (width, height, status_pictures.DIRECTORY / f"status-{width}-{scheme}.png")
    for width, height in status_pictures.SIZES.items()
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize(("width", "height", "file"), FILES, ids=lambda each: getattr(each, "name", ""))
def test_the_committed_pictures_are_small(width, height, file):
    picture = file.read_bytes()
    assert PIL.Image.open(io.BytesIO(picture)).size == (width, height)
    assert len(picture) < 200_000


@needs("chromium")
def test_pictures_are_taken_of_a_router_under_requests(tmp_path):
    with status_pictures.loaded(0.5, threads=1) as (_, url):
        (light, dark) = status_pictures.pictures(url, tmp_path, {400: 500})
    brightness = []
    for file in (light, dark):
        picture = PIL.Image.open(file).convert("L")
        assert picture.size == (400, 500)
        brightness.append(picture.getpixel((2, 2)))
    assert brightness[0] > 200 > 60 > brightness[1]
