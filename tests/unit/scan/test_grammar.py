import pytest

from bbr.scan import grammar


@pytest.mark.parametrize(
    ("text", "bones"),
    [
        (b'[ 1 , "a,b" ],{"k" : true}', b"[,],{:}"),
        (b'["]\\"[",{"\\\\":"\\\\"},', b"[,{:},"),
        (b'{"model":1,"model" :2,"x":"model"}', b"{::,::,:}"),
        (b'{"\\u006dod\\u0065l"\n:1,"mod\\\\el":2,"\\"model":3}', b"{::,:,:}"),
        (b" ", b""),
    ],
)
def test_skeleton(text: bytes, bones: bytes) -> None:
    assert grammar.skeleton(text) == bones


@pytest.mark.parametrize(
    ("bones", "left"),
    [
        (b"[,],{:[]},", b",,"),
        (b"[[[[]]]],[,[", b",[,["),
        (b"{:{::,:}},:[],:[", b",:,:["),
        (b"],:}]", b"],:}]"),
        (b"{:,}[:]", b"{:,}[:]"),
        (b"[" * 100 + b"]" * 100, b"[" * 99 + b"]" * 99),  # few but steep
    ],
)
def test_reduced(bones: bytes, left: bytes) -> None:
    assert grammar.reduced(bones) == left


@pytest.mark.parametrize(
    ("left", "parts"),
    [
        (b",]},:},[,{:", (b",]},:}", b",", b"[,{:")),
        (b",:,:[", (b"", b",:,:", b"[")),
        (b"{:,[", (b"", b"", b"{:")),
        (b",", (b"", b",", b"")),
    ],
)
def test_segments(left: bytes, parts: tuple[bytes, bytes, bytes]) -> None:
    assert grammar.SEGMENT.match(left, 0).groups() == parts


def test_brackets_of_a_segment_in_the_order_of_the_stack() -> None:
    assert grammar.closings(b",]},:}") == b"{{["
    assert grammar.openings(b"[,{:") == b"[{"


@pytest.mark.parametrize(
    ("text", "end"),
    [(b"1,2,[3],{}]", 10), (b"1,2,", 4), (b"1,2", 2), (b"1,[[[1]]],2", 2), (b"1]", 1), (b"1,]", 0), (b" 1,", 3)],
)
def test_runs_of_items(text: bytes, end: int) -> None:
    found = grammar.ITEMS[grammar.NESTED].match(text, 0)
    assert found
    assert found.end() == end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b'1,"a":2}', 7),
        (b'1,"a":', 6),
        (b'1,"a":2,"model":3}', 6),
        (b'1,"\\u006dodel":2}', 0),
        (b'{"model":1}}', 11),
        (b'1,"a":}', 0),
    ],
)
def test_runs_of_the_root_stop_before_its_model(text: bytes, end: int) -> None:
    found = grammar.ROOT_MEMBERS.match(text, 0)
    assert found
    assert found.end() == end


@pytest.mark.parametrize("text", [b"]", b" }", b"\n]"])
def test_there_is_no_run_at_a_closing_bracket(text: bytes) -> None:
    assert grammar.ITEMS[0].match(text, 0) is None


@pytest.mark.parametrize(
    ("text", "end"),
    [(b"[[[[1]]],2,", 11), (b'{"a":[1]},"b":', 14), (b"[[", 1), (b"[1,]", 1), (b'{"a":}', 0), (b"1", 0), (b"[[1", 2)],
)
def test_mixed_ends_at_a_value_s_place(text: bytes, end: int) -> None:
    assert grammar.MIXED.match(text, 0).end() == end


@pytest.mark.parametrize("letters", ["model", "\\u006d\\u006f\\u0064\\u0065\\u006c", "\\u006Do\\u0064e\\u006C"])
def test_model_key_however_it_is_spelled(letters: str) -> None:
    key = f'"{letters}"'.encode()
    assert grammar.MODEL_KEY.fullmatch(key)
    assert len(key) <= grammar.LONGEST_MODEL_KEY


def test_containers_nest_in_a_run_up_to_the_depth_of_its_pattern() -> None:
    for nested in range(grammar.NESTED + 1):
        for depth in range(grammar.NESTED + 2):
            value = b"[" * depth + b"1" + b"]" * depth + b","
            found = grammar.ITEMS[nested].match(value, 0)
            assert found
            assert (found.end() == len(value)) == (depth <= nested)
