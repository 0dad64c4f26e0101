import pytest

from bbr.reading.spelling import INVISIBLE, MAX_BYTES, is_alike, is_folded


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"model",
            b"Model",
            b"MODEL",
            b"[model]",
            b"[[model",
            b"model[]",
            b"model[x][y]",
            b"model.x",
            b".model",
            b"model]",
        ),
        *(b" model", b"model\t", b"?model", b"!model", b"+model+", b"\0model", b"model\0x", b"'model'", b"'model"),
        *(
            b"%6dodel",
            b"%256dodel",
            b"%25256dodel",
            b"%25%36%64odel",
            b"%u006dodel",
            b"%U004Dodel",
            b"/model",
            b"\\/model",
            b"mo\\del",
            b"\\m\\odel",
        ),
        *(b"\xef\xbb\xbfmodel", b"mo\xe2\x80\x8bdel", b"model\xef\xb8\x8f", b"%EF%BB%BFmodel", b"\xc2\xa0model"),
        *(b"m\xffodel", b"model\xff", b"\xedodel", b"\xdbmodel\xdd", b"m%ffodel"),
        *(b" " * MAX_BYTES + b"x", b"%20" * MAX_BYTES, b"%5B" * MAX_BYTES, b"%2520" * MAX_BYTES),
    ],
)
def test_alike(name: bytes) -> None:
    assert is_alike(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"",
            b"models",
            b"model_id",
            b"model-x",
            b"modell",
            b"mode",
            b"odel",
            b"xmodel",
            b"a[model]",
            b"x.model",
            b"model2",
        ),
        *("größe".encode(), "model名".encode(), "名model".encode(), "模型".encode(), "ｍｏｄｅｌ".encode()),
        *(
            b"%",
            b"%%",
            b"m%",
            b"%zzmodel",
            b"%6dodels",
            b" ",
            b"%20",
            b"[]",
            b" " * MAX_BYTES,
            b"model%3Da",
            b"x" * 1000,
        ),
    ],
)
def test_others(name: bytes) -> None:
    assert not is_alike(name)


@pytest.mark.parametrize("key", ["model", "MODEL", "mOdEl", "model\0", "Model\0x"])
def test_folded(key: str) -> None:
    assert is_folded(key)


@pytest.mark.parametrize("key", ["", "models", " model", "\0model", "mode\u017f", "ｍodel"])
def test_not_folded(key: str) -> None:
    assert not is_folded(key)


def test_what_can_be_seen() -> None:
    for text in (
        "a b",
        "Qwen/Qwen2.5-3B:Q4_K_M@v1+x~",
        "模型",
        "café",
        "модель",
        "\N{LLAMA}",
        "\u2010\u2014\u2026",
        "ø",
    ):
        assert not INVISIBLE.search(text)


def test_escapes_are_undone_a_few_times_and_no_more() -> None:
    assert is_alike(b"%25256dodel")
    assert not is_alike(b"%252525252525256dodel")
