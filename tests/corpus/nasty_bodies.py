"""Bodies that parsers read differently or trip over, each with the one verdict that the router must give.

A verdict is the model, None (no model: passed, stripped), or the reason of the refusal as `bbr:<reason>`.
"""

from typing import NamedTuple


class Nasty(NamedTuple):
    """One body and its verdict."""

    id: str
    body: bytes
    verdict: str | None


def wide(size: int) -> bytes:
    """Return `size` bytes of text for the inside of a JSON string."""
    return b"x" * size


# A key that orjson 3.13.0 takes for `model`: the two have one hash, and its key cache compares nothing else. The cache
# is the process's, so what parses TWIN confuses all that comes after it: twins.py tries it, in a process of its own.
TWIN = b"1X1vOLo_B9o8bu9d4HYmMkzUWKlbImj3GXAmZqJ_4qyDSJN2BiOJ_FVcLu2almBT"

TWINS = [
    Nasty("a key with the hash of model", b'{"%s":"b"}' % TWIN, None),
    Nasty("a key with the hash of model, after it", b'{"model":"a","%s":"b"}' % TWIN, "a"),
    Nasty("a key with the hash of model, before it", b'{"%s":"b","model":"a"}' % TWIN, "a"),
    Nasty(
        "duplicate, made up for by the twin", b'{"model":"a","model":"b","x":{"%s":1}}' % TWIN, "bbr:model-duplicate"
    ),
]

BODIES = [
    # Duplicate keys: Go and vLLM take the last, gjson the first.
    Nasty("duplicate", b'{"model":"a","model":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate, equal", b'{"model":"a","model":"a"}', "bbr:model-duplicate"),
    Nasty("duplicate, three", b'{"model":"a","model":"b","model":"a"}', "bbr:model-duplicate"),
    Nasty("duplicate, first null", b'{"model":null,"model":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate, far apart", b'{"model":"a","x":"%s","model":"b"}' % wide(70_000), "bbr:model-duplicate"),
    Nasty("duplicate, second escaped", b'{"model":"a","\\u006dodel":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate, first escaped", b'{"mod\\u0065l":"a","model":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate, both escaped", b'{"\\u006Dodel":"a","m\\u006fdel":"b"}', "bbr:model-duplicate"),
    Nasty(
        "duplicate, all escaped",
        b'{"\\u006d\\u006f\\u0064\\u0065\\u006c":"a","model":"b"}',
        "bbr:model-duplicate",
    ),
    Nasty("duplicate behind an escaped quote", b'{"model":"a","x":"\\u0022model","model":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate behind two escaped quotes", b'{"model":"a","x":"\\"model\\"","model":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate behind a nested key", b'{"model":{"model":"a"},"model":"b"}', "bbr:model-duplicate"),
    Nasty("duplicate with blanks", b'{"model" :"a",\n\t"model"\r: "b"}', "bbr:model-duplicate"),
    Nasty("duplicate, nested ones too", b'{"x":{"model":1,"model":2},"model":"a","model":"b"}', "bbr:model-duplicate"),
    Nasty(
        "duplicate after 300 levels",
        b'{"model":"a","x":%s%s,"model":"b"}' % (b"[" * 300, b"]" * 300),
        "bbr:model-duplicate",
    ),
    # Not duplicates, though they look it.
    Nasty("nested key", b'{"x":{"model":"b"},"model":"a"}', "a"),
    Nasty("nested keys, duplicate", b'{"x":{"model":"b","model":"c"},"model":"a"}', "a"),
    Nasty("tool schema", b'{"tools":[{"properties":{"model":{}},"required":["model"]}],"model":"a"}', "a"),
    Nasty("as a value", b'{"x":"model","model":"a","y":["model"]}', "a"),
    Nasty("its own name", b'{"model":"model"}', "model"),
    Nasty("in a text", b'{"x":"{\\"model\\":\\"b\\"}","model":"a"}', "a"),
    Nasty("in a text, escaped", b'{"x":"\\u007b\\u0022model\\u0022:1}","model":"a"}', "a"),
    Nasty("backslashes before a quote", b'{"x":"\\\\","model":"a","y":"\\\\\\"model"}', "a"),
    Nasty("other duplicate keys", b'{"x":1,"x":2,"model":"a"}', "a"),
    Nasty("nested escaped key", b'{"x":{"mod\\u0065l":"b"},"model":"a"}', "a"),
    Nasty("alone and escaped", b'{"mod\\u0065l":"a"}', "a"),
    # Other spellings, which Go's encoding/json, cJSON or a C string take for `model`.
    Nasty("two letter cases", b'{"model":"a","Model":"b"}', "bbr:model-duplicate"),
    Nasty("two letter cases, the other one first", b'{"MODEL":"a","model":"b"}', "bbr:model-duplicate"),
    Nasty("two other letter cases", b'{"Model":"a","MODEL":"b"}', "bbr:model-duplicate"),
    Nasty("two letter cases, escaped", b'{"model":"a","\\u004dodel":"b"}', "bbr:model-duplicate"),
    Nasty("other letter case", b'{"moDel":"a"}', "bbr:model-spelling"),
    Nasty("other letter case, far behind", b'{"x":"%s","MODEL":"b"}' % wide(70_000), "bbr:model-spelling"),
    Nasty("a letter case that folds", '{"ſ":1,"MODEL":"K"}'.encode(), "bbr:model-spelling"),
    Nasty("NUL in the key", b'{"model\\u0000":"a"}', "bbr:model-spelling"),
    Nasty("NUL in the key, and more behind it", b'{"x":1,"Model\\u0000\\n\\"x":["a"]}', "bbr:model-spelling"),
    Nasty("NUL in a second key", b'{"model":"a","model\\u0000x":"b"}', "bbr:model-duplicate"),
    # Other names.
    Nasty("blank in the key", b'{"model ":"a"}', None),
    Nasty("NUL in another key", b'{"models\\u0000":"a","\\u0000model":"b"}', None),
    Nasty("other letter case, nested", b'{"x":{"Model":"b"},"model":"a"}', "a"),
    Nasty("full-width letters", '{"ｍｏｄｅｌ":"a"}'.encode(), None),
    Nasty("nested alone", b'{"x":{"model":"a"}}', None),
    Nasty("an array", b'[{"model":"a"}]', None),
    Nasty("a string", b'"model"', None),
    Nasty("null", b"null", None),
    Nasty("a number", b"0", None),
    Nasty("an empty object", b"{}", None),
    Nasty("nothing", b"", None),
    # Models that are no names.
    Nasty("null model", b'{"model":null}', "bbr:model-not-string"),
    Nasty("number", b'{"model":1234567}', "bbr:model-not-string"),
    Nasty("true", b'{"model":true}', "bbr:model-not-string"),
    Nasty("array", b'{"model":["a"]}', "bbr:model-not-string"),
    Nasty("object", b'{"model":{"model":"a"}}', "bbr:model-not-string"),
    Nasty("empty", b'{"model":""}', "bbr:model-empty"),
    Nasty("blank", b'{"model":" "}', "bbr:model-illegal"),
    Nasty("leading blank", b'{"model":" a"}', "bbr:model-illegal"),
    Nasty("trailing blank", b'{"model":"a "}', "bbr:model-illegal"),
    Nasty("trailing line feed", b'{"model":"a\\n"}', "bbr:model-illegal"),
    Nasty("header injection", b'{"model":"a\\r\\nx-admin: 1"}', "bbr:model-illegal"),
    Nasty("NUL", b'{"model":"a\\u0000b"}', "bbr:model-illegal"),
    Nasty("DEL", b'{"model":"a\x7fb"}', "bbr:model-illegal"),
    Nasty("TAB", b'{"model":"a\\tb"}', "bbr:model-illegal"),
    Nasty("no-break space at the end", b'{"model":"a\\u00a0"}', "bbr:model-illegal"),
    Nasty("byte order mark in the model", b'{"model":"\\ufeffa"}', "bbr:model-illegal"),
    Nasty("blank without width", '{"model":"a\u200bb"}'.encode(), "bbr:model-illegal"),
    Nasty("mark of direction", b'{"model":"a\\u202eb"}', "bbr:model-illegal"),
    Nasty("variation selector", b'{"model":"a\\ufe0f"}', "bbr:model-illegal"),
    Nasty("256 octets", b'{"model":"%s"}' % wide(256), "x" * 256),
    Nasty("257 octets", b'{"model":"%s"}' % wide(257), "bbr:model-too-long"),
    Nasty("257 octets in 129 characters", b'{"model":"%sx"}' % ("é" * 128).encode(), "bbr:model-too-long"),
    Nasty("300,000 octets", b'{"model":"%s"}' % wide(300_000), "bbr:model-too-long"),
    # Names that are odd and good.
    Nasty("slashes", b'{"model":"Qwen\\/Qwen2.5-3B-Instruct"}', "Qwen/Qwen2.5-3B-Instruct"),
    Nasty("quote and backslash", b'{"model":"a\\"b\\\\c"}', 'a"b\\c'),
    Nasty("escaped letters", b'{"model":"\\u0061"}', "a"),
    Nasty("non-ASCII", '{"model":"模型"}'.encode(), "模型"),
    Nasty("non-ASCII, escaped", b'{"model":"\\u6a21\\u578b"}', "模型"),
    Nasty("surrogate pair", b'{"model":"\\ud83e\\udd99"}', "\N{LLAMA}"),
    Nasty("blank inside", b'{"model":"my model"}', "my model"),
    Nasty("comma and colon", b'{"model":"a,b:c;d=e"}', "a,b:c;d=e"),
    # No strict JSON.
    Nasty("trailing text", b'{"model":"a"}x', "bbr:trailing-bytes"),
    Nasty("second document", b'{"model":"a"}{"model":"b"}', "bbr:trailing-bytes"),
    Nasty("second document on a line", b'{"model":"a"}\n{"model":"b"}', "bbr:trailing-bytes"),
    Nasty("trailing NUL", b'{"model":"a"}\x00', "bbr:trailing-bytes"),
    Nasty("trailing blanks", b'{"model":"a"} \r\n\t', "a"),
    Nasty("byte order mark", b'\xef\xbb\xbf{"model":"a"}', "bbr:byte-order-mark"),
    Nasty("UTF-16", '{"model":"a"}'.encode("utf-16-le"), "bbr:invalid-json"),
    Nasty("UTF-16 with its mark", '{"model":"a"}'.encode("utf-16"), "bbr:invalid-utf8"),
    Nasty("UTF-32", '{"model":"a"}'.encode("utf-32-be"), "bbr:invalid-json"),
    Nasty("bad octet in a text", b'{"x":"\xff","model":"a"}', "bbr:invalid-utf8"),
    Nasty("overlong slash", b'{"x":"\xc0\xaf","model":"a"}', "bbr:invalid-utf8"),
    Nasty("encoded surrogate", b'{"x":"\xed\xa0\x80","model":"a"}', "bbr:invalid-utf8"),
    Nasty("cut character", b'{"x":"\xe6\xa8","model":"a"}', "bbr:invalid-utf8"),
    Nasty("lone surrogate", b'{"x":"\\ud800","model":"a"}', "bbr:lone-surrogate"),
    Nasty("lone surrogate in the model", b'{"model":"\\udfff"}', "bbr:lone-surrogate"),
    Nasty("NaN", b'{"x":NaN,"model":"a"}', "bbr:non-finite-number"),
    Nasty("Infinity", b'{"x":Infinity,"model":"a"}', "bbr:non-finite-number"),
    Nasty("-Infinity", b'{"x":-Infinity,"model":"a"}', "bbr:non-finite-number"),
    Nasty("1e999", b'{"x":1e999,"model":"a"}', "bbr:non-finite-number"),
    Nasty("huge integer", b'{"x":%s,"model":"a"}' % (b"9" * 300), "a"),
    Nasty("leading zero", b'{"x":01,"model":"a"}', "bbr:invalid-json"),
    Nasty("plus sign", b'{"x":+1,"model":"a"}', "bbr:invalid-json"),
    Nasty("hexadecimal", b'{"x":0x1,"model":"a"}', "bbr:invalid-json"),
    Nasty("bare point", b'{"x":1.,"model":"a"}', "bbr:invalid-json"),
    Nasty("trailing comma", b'{"model":"a",}', "bbr:invalid-json"),
    Nasty("single quotes", b"{'model':'a'}", "bbr:invalid-json"),
    Nasty("bare key", b'{model:"a"}', "bbr:invalid-json"),
    Nasty("comment", b'{"model":"a"/*,"model":"b"*/}', "bbr:invalid-json"),
    Nasty("line comment", b'{//x\n"model":"a"}', "bbr:invalid-json"),
    Nasty("control character in a text", b'{"x":"\x01","model":"a"}', "bbr:invalid-json"),
    Nasty("line feed in a text", b'{"x":"\n","model":"a"}', "bbr:invalid-json"),
    Nasty("unknown escape", b'{"x":"\\x41","model":"a"}', "bbr:invalid-json"),
    Nasty("short escape", b'{"x":"\\u00","model":"a"}', "bbr:invalid-json"),
    Nasty("vertical tab between", b'{"model"\x0b:"a"}', "bbr:invalid-json"),
    Nasty("no-break space between", b'{"model"\xc2\xa0:"a"}', "bbr:invalid-json"),
    Nasty("unfinished", b'{"model":"a"', "bbr:invalid-json"),
    Nasty("unfinished text", b'{"model":"a', "bbr:invalid-json"),
    Nasty("closed twice", b'{"model":"a"}}', "bbr:trailing-bytes"),
    Nasty("wrong bracket", b'{"model":"a"]', "bbr:invalid-json"),
    Nasty("blanks alone", b" \n", "bbr:invalid-json"),
    Nasty("form", b"model=a", "bbr:invalid-json"),
    Nasty("event stream", b'data: {"model":"a"}', "bbr:invalid-json"),
    Nasty("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "bbr:invalid-json"),
    Nasty("multipart", b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na\r\n', "bbr:invalid-json"),
    Nasty("2000 open brackets", b"[" * 2000, "bbr:too-deep"),
    Nasty("2000 levels", b'{"x":%s%s,"model":"a"}' % (b"[" * 2000, b"]" * 2000), "bbr:too-deep"),
    Nasty("500 levels", b'{"x":%s%s,"model":"a"}' % (b"[" * 500, b"]" * 500), "a"),
    Nasty("1020 levels", b'{"x":%s%s,"model":"a"}' % (b"[" * 1020, b"]" * 1020), "bbr:too-deep"),
    Nasty("2000 objects", b'{"model":' * 2000, "bbr:too-deep"),
]
