import json

import pytest
from google.protobuf.message import DecodeError

from bbr.exchange.asker import MAX_BYTES, MAX_CONTEXT_BYTES, MAX_ENTRIES, MAX_NAMES, Asker
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.entries import Alias, BaseModel, Declaration, Grant, Origin
from bbr.models.listing import ModelsList
from bbr.models.merging import merging
from bbr.models.routing import MissingModel, Rules
from bbr.models.steps import finish
from bbr.pb.ext_proc_pb2 import AttributesEntry, HeaderMap, HeaderValue, Metadata, ProcessingRequest
from bench.harness.conversation import BUFFERED, FDS, assert_refused, assert_routes, converse
from bench.harness.messages import JSON_POST, request_body, request_headers

JWT = ("envoy.filters.http.jwt_authn", "payload", "sub")


def headers(*fields):
    return HeaderMap(headers=[HeaderValue(key=key, raw_value=value).SerializeToString() for key, value in fields])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([b"team-a"], {"team-a"}),
        ([b" team-a , team-b,,"], {"team-a", "team-b"}),
        (["caf\u00e9".encode()], {"caf\u00e9"}),
        ([b""], set()),
        ([b"*"], set()),
        ([b"*, team-a"], {"team-a"}),
        ([], set()),
        ([b"team-a", b"team-b"], set()),
        ([b"team-a", b"team-a"], set()),
        ([b"x" * MAX_BYTES], {"x" * MAX_BYTES}),
        ([b"x" * (MAX_BYTES + 1)], set()),
        ([",".join(map(str, range(MAX_NAMES))).encode()], set(map(str, range(MAX_NAMES)))),
        ([",".join(map(str, range(MAX_NAMES + 1))).encode()], set()),
    ],
)
def test_names_in_a_header(values, names):
    section = headers((b"host", b"a"), *((b"x-team", value) for value in values))
    assert Asker(header="x-team").named(section) == names
    assert Asker(header="x-team").in_context(ProcessingRequest()) is None


def test_a_field_that_can_t_be_decoded_names_nobody():
    broken = HeaderMap(headers=[b"\x0a\x06x-team\xff"])
    assert Asker(header="x-team").named(broken) == frozenset()
    assert Asker(metadata=JWT).named(headers(("x-team", b"a"))) == frozenset()


@pytest.mark.parametrize("asker", [Asker(metadata=JWT), Asker(attribute="connection.uri_san_peer_certificate")])
def test_what_is_told_beside_the_headers_comes_back(asker):
    message = ProcessingRequest()
    assert asker.in_context(message) == frozenset()
    asker.put_into(message, ["team-a", "team-b"])
    assert asker.in_context(ProcessingRequest.FromString(message.SerializeToString())) == {"team-a", "team-b"}
    assert Asker(metadata=("other", "sub")).in_context(message) == frozenset()
    assert Asker(metadata=(*JWT, "x")).in_context(message) == frozenset()
    assert Asker(metadata=(JWT[0], "x", "sub")).in_context(message) == frozenset()
    assert Asker(attribute="request.path").in_context(message) == frozenset()


def test_a_text_in_metadata_is_one_name_with_its_commas():
    noted = Metadata()
    noted.filter_metadata["auth"].fields["owner"].string_value = "CN=a,O=b"
    noted.filter_metadata["auth"].fields["number"].list_value.values.add()
    message = ProcessingRequest(metadata_context=noted.SerializeToString())
    assert Asker(metadata=("auth", "owner")).in_context(message) == {"CN=a,O=b"}
    assert Asker(metadata=("auth", "number")).in_context(message) == frozenset()


def test_too_much_is_nobody():
    noted = Metadata()
    values = noted.filter_metadata["auth"].fields["groups"].list_value.values
    for number in range(MAX_NAMES + 1):
        values.add().string_value = str(number)
    assert (
        Asker(metadata=("auth", "groups")).in_context(ProcessingRequest(metadata_context=noted.SerializeToString()))
        == set()
    )
    noted.filter_metadata["auth"].fields["owner"].string_value = "a"
    noted.filter_metadata["other"].fields["x"].string_value = "x" * MAX_CONTEXT_BYTES
    long = ProcessingRequest(metadata_context=noted.SerializeToString())
    assert Asker(metadata=("auth", "owner")).in_context(long) == set()


def test_what_a_gateway_tells_must_be_what_it_is():
    with pytest.raises(DecodeError):
        Asker(metadata=JWT).in_context(ProcessingRequest(metadata_context=b"\xff"))


def test_an_attribute_is_found_below_any_filter_s_name():
    message = ProcessingRequest(attributes=[attributes("a", "x"), attributes("b", "y")])
    assert Asker(attribute="y").in_context(message) == {"y's"}


def attributes(key, name, size=0):
    entry = AttributesEntry(key=key + "k" * size)
    entry.value.fields[name].string_value = f"{name}'s"
    return entry.SerializeToString()


def test_attributes_beyond_what_is_decoded_name_nobody():
    asker = Asker(attribute="x")
    several = [attributes("a", "x")] + [b""] * (MAX_ENTRIES - 1)
    assert asker.in_context(ProcessingRequest(attributes=several)) == {"x's"}
    assert asker.in_context(ProcessingRequest(attributes=[*several, b""])) == frozenset()
    room = MAX_CONTEXT_BYTES - len(attributes("a", "x", MAX_CONTEXT_BYTES // 2)) + MAX_CONTEXT_BYTES // 2
    assert asker.in_context(ProcessingRequest(attributes=[attributes("a", "x", room)])) == {"x's"}
    assert asker.in_context(ProcessingRequest(attributes=[attributes("a", "x", room + 1)])) == frozenset()
    with pytest.raises(DecodeError):
        asker.in_context(ProcessingRequest(attributes=[b"\xff"]))


# Exchanges of a table that says who may use what.

TABLE, _ = finish(
    merging(
        [
            Declaration(
                Origin(),
                (BaseModel("qwen", ("sql",)), BaseModel("phi")),
                (Alias("gpt", "sql"), Alias("both", "qwen", (("qwen", 1), ("phi", 1)))),
                (Grant("qwen", frozenset({"team-a"})),),
            )
        ]
    )
)
HEADER = Asker(header="x-team")


def exchange(asker=HEADER, **policy):
    return Exchange(Policy(Replies(), asker=asker, **policy), TABLE)


def told(asker, names, mode=FDS):
    """Return the first message of a gateway that tells who asks beside the headers."""
    message = ProcessingRequest.FromString(request_headers(mode=mode))
    asker.put_into(message, names)
    return message.SerializeToString()


def ask(model, *teams, mode=FDS, **policy):
    fields = [*JSON_POST.items(), *(("x-team", team) for team in teams)]
    talk = exchange(**policy)
    return talk, converse(talk, request_headers(fields, mode=mode), request_body(body(model), end_of_stream=True))


def body(model):
    return json.dumps({"model": model, "messages": []}).encode()


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize(("model", "base"), [("qwen", "qwen"), ("sql", "qwen"), ("phi", "phi")])
def test_who_is_in_the_list_is_routed(mode, model, base):
    talk, answers = ask(model, "team-a, other", mode=mode)
    assert_routes(answers[0] if mode == FDS else answers[1], model, base)
    assert talk.verdict.outcome is Outcome.ROUTED


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize("model", ["qwen", "sql", "gpt", "both"])
@pytest.mark.parametrize("teams", [[], ["team-b"], ["team-a", "team-a"], ["*"]])
def test_who_is_not_gets_403(mode, model, teams):
    talk, answers = ask(model, *teams, mode=mode)
    assert_refused(answers, 403, "model-not-allowed")
    assert (talk.verdict.outcome, talk.verdict.model) == (Outcome.REFUSED, model)


def test_a_model_without_a_list_is_for_everyone():
    _, answers = ask("phi")
    assert_routes(answers[0], "phi", "phi")


@pytest.mark.parametrize("asker", [Asker(metadata=("auth", "team")), Asker(attribute="connection.id")])
@pytest.mark.parametrize("mode", [FDS, BUFFERED])
def test_what_the_gateway_tells_beside_the_headers_counts_and_no_header(asker, mode):
    last = request_body(body("qwen"), end_of_stream=True)
    answers = converse(exchange(asker), told(asker, ["team-a"], mode), last)
    assert_routes(answers[0] if mode == FDS else answers[1], "qwen", "qwen")
    fields = {**JSON_POST, "x-team": "team-a"}
    assert_refused(converse(exchange(asker), request_headers(fields, mode=mode), last), 403, "model-not-allowed")


def test_metadata_that_is_none_breaks_the_protocol():
    message = ProcessingRequest.FromString(request_headers(mode=FDS))
    message.metadata_context = b"\xff"
    talk = exchange(Asker(metadata=("auth", "team")))
    talk.receive(message.SerializeToString())
    assert talk.verdict.outcome is Outcome.FAULT


def test_without_a_way_to_know_nobody_is_known():
    _, answers = ask("qwen", "team-a", asker=None)
    assert_refused(answers, 403, "model-not-allowed")


def test_a_default_model_is_held_to_its_list():
    rules = Rules(missing_model=MissingModel.DEFAULT, default_model="qwen")
    for team, status in (("team-a", 0), ("team-b", 403)):
        talk = exchange(rules=rules)
        fields = {**JSON_POST, "x-team": team}
        converse(talk, request_headers(fields, mode=FDS), request_body(b"{}", end_of_stream=True))
        assert talk.verdict.status == status


def test_a_long_body_is_refused_as_soon_as_its_model_is_known():
    fields = {**JSON_POST, "x-team": "team-b"}
    talk = exchange(stream_threshold_bytes=1 << 10)
    answers = converse(talk, request_headers(fields, mode=FDS), request_body(b'{"model":"qwen","x":"' + b"y" * 5_000))
    assert_refused(answers, 403, "model-not-allowed")


@pytest.mark.parametrize(("team", "models"), [("team-a", ["qwen", "sql", "gpt", "phi", "both"]), ("team-b", ["phi"])])
def test_the_list_of_models_is_the_asker_s(team, models):
    fields = {":method": "GET", ":path": "/v1/models", "x-team": team}
    (answer,) = converse(exchange(models_list=ModelsList()), request_headers(fields, mode=FDS, end_of_stream=True))
    listed = json.loads(answer.immediate_response.body)["data"]
    assert sorted(each["id"] for each in listed) == sorted(models)
