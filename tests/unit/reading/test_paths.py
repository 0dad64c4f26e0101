import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbr.reading.paths import MAX_COMPARED_BYTES, PathFilter, PathPattern


def patterns(*texts):
    return tuple(map(PathPattern, texts))


MATCHES = {
    "itself": ("/v1/files", b"/v1/files", True),
    "a slash at the pattern's end does not matter": ("/v1/files/", b"/v1/files", True),
    "not what is below": ("/v1/files", b"/v1/files/1", False),
    "not what begins alike": ("/v1/files", b"/v1/files2", False),
    "letter case counts": ("/v1/files", b"/v1/Files", False),
    "a star": ("/v1/*/content", b"/v1/x/content", True),
    "a star is one segment": ("/v1/*/content", b"/v1/x/y/content", False),
    "a star within a segment": ("/v1/mo*:gen", b"/v1/models:gen", True),
    "stars below": ("/v1/files/**", b"/v1/files/1/content", True),
    "stars are none as well": ("/v1/files/**", b"/v1/files", True),
    "stars in front": ("/**/embeddings", b"/openai/v1/embeddings", True),
    "stars between": ("/a/**/z", b"/a/b/c/z", True),
    "stars for all": ("/**", b"/x", True),
    "the root": ("/", b"", True),
    "a point is a point": ("/v1.0", b"/v1x0", False),
}


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES.values(), ids=MATCHES)
def test_matches(pattern, path, expected):
    assert PathPattern(pattern).matches(path) is expected


WRONG = {
    "no slash": ("v1", "must begin with a slash"),
    "nothing": ("", "must begin with a slash"),
    "an empty segment": ("/a//b", "must not have an empty segment"),
    "a dot segment": ("/a/../b", "must not have an empty segment (as in //), . or .."),
    "an escape": ("/a%20b", "a character that a path pattern cannot have"),
    "a query": ("/a?b", "a character that a path pattern cannot have"),
    "stars beside text": ("/a**", "may have ** only as a whole segment"),
    "too long": ("/" + "a" * 256, "must not be longer than 256 characters"),
}


@pytest.mark.parametrize(("text", "part"), WRONG.values(), ids=WRONG)
def test_wrong_patterns(text, part):
    with pytest.raises(ValueError, match=r"^(must|may|has) ") as caught:
        PathPattern(text)
    assert part in str(caught.value)


def test_patterns_compare_by_their_text():
    assert PathPattern("/a") == PathPattern("/a")
    assert PathPattern("/a") != PathPattern("/b")
    assert PathPattern("/a") != "/a"
    assert len({*patterns("/a", "/a", "/b")}) == 2
    assert repr(PathPattern("/a")) == "PathPattern('/a')"


EXCLUDING = PathFilter(exclude=patterns("/v1/files/**"))
INCLUDING = PathFilter(include=patterns("/v1/chat/completions"))
BOTH = PathFilter(include=patterns("/v1/**"), exclude=patterns("/v1/files/**"))

READ = {
    "all without a filter": (PathFilter(), b"/any", True),
    "another path than an excluded one": (EXCLUDING, b"/v1/chat/completions", True),
    "an excluded one": (EXCLUDING, b"/v1/files/1", False),
    "an excluded one with a query": (EXCLUDING, b"/v1/files?x=/v1/chat/completions", False),
    "an excluded one with a slash": (EXCLUDING, b"/v1/files/", False),
    "an included one": (INCLUDING, b"/v1/chat/completions", True),
    "an included one with a query": (INCLUDING, b"/v1/chat/completions?api-version=1", True),
    "another one than included": (INCLUDING, b"/v1/embeddings", False),
    "included and excluded": (BOTH, b"/v1/files/x", False),
    "included and not excluded": (BOTH, b"/v1/chat", True),
    "neither": (BOTH, b"/healthz", False),
    # Tricks: whoever reads the path in any way as one that is read gets it read.
    "a dot segment out of an excluded path": (EXCLUDING, b"/v1/files/../chat/completions", True),
    "the same, escaped": (EXCLUDING, b"/v1/files/%2e%2e/chat/completions", True),
    "a slash escaped": (EXCLUDING, b"/v1/files/..%2fchat/completions", True),
    "backslashes": (EXCLUDING, b"/v1/files\\..\\chat/completions", True),
    "path parameters": (EXCLUDING, b"/v1/files/..;x/chat/completions", True),
    "two slashes": (INCLUDING, b"/v1//chat/completions", True),
    "an escape for a letter": (INCLUDING, b"/v1/ch%61t/completions", True),
    "a dot segment into an included path": (INCLUDING, b"/x/../v1/chat/completions", True),
    "an escape for an escape": (INCLUDING, b"/v1/%2563hat/completions", True),
    "an escape for an escape for an escape": (INCLUDING, b"/v1/%252563hat/completions", True),
    "other letters": (INCLUDING, b"/V1/Chat/Completions", True),
    "other letters of an excluded path": (EXCLUDING, b"/V1/Files/x", True),
    "other letters of an excluded path that is included": (BOTH, b"/V1/Files/x", True),
    "other letters beside a pattern": (INCLUDING, b"/V1/Chat/Completion", False),
    "a fragment": (INCLUDING, b"/v1/chat/completions#x", True),
    "an odd path that is out of scope in every way": (INCLUDING, b"/v1//embeddings", False),
    "an odd path that is excluded in every way": (EXCLUDING, b"/v1/files/a;b", False),
    "an odd path too long to look at": (INCLUDING, b"/x//" + b"a" * 1024, True),
    "a long path": (INCLUDING, b"/x/" + b"a" * 1024, False),
    "a path too long to look at": (INCLUDING, b"/x/" + b"a" * 4096, True),
    "no path at all": (INCLUDING, b"", False),
}


@pytest.mark.parametrize(("paths", "path", "expected"), READ.values(), ids=READ)
def test_reads(paths, path, expected):
    assert paths.reads(path) is expected
    assert paths.reads(path) is expected


SPELLINGS = st.sampled_from([b"", b"%2f", b"/.", b"/%2e", b"/x/..", b"/x/%2e%2E", b"/", b";a", b"/;a/.."])


@given(st.lists(SPELLINGS, min_size=4, max_size=4))
def test_no_spelling_of_a_path_that_is_read_makes_it_one_that_is_not(parts):
    path = b"".join(part + extra for part, extra in zip((b"/v1", b"/chat", b"/completions", b""), parts, strict=True))
    assert INCLUDING.reads(path)
    assert INCLUDING.reads(path.upper())
    assert INCLUDING.reads(path.replace(b"c", b"%63").replace(b"%", b"%25"))


def test_a_path_that_takes_long_to_compare_is_read():
    many = PathFilter(include=patterns(*(f"/**/a/*{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")))
    path = b"/a/0" + b"/x" * (MAX_COMPARED_BYTES // 25 // 2)
    assert many.reads(path)
    assert not many.reads(path[: len(path) // 2])
    # Only patterns whose literal segments stand in a path are compared with it.
    assert not many.reads(path.replace(b"a", b"A0"))
