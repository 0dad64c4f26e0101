"""What each reason means and what to do about it, in a sentence each: for the status page and its page of help.

The keys are the `bbr:<reason>` of the gateway's access log. docs/reference/answers.md lists the same ones with the
status codes, docs/troubleshooting.md has the symptoms.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Reason(NamedTuple):
    """A reason for people.

    Attributes:
        what: what happened, one sentence.
        remedy: what to do, and who should.
    """

    what: str
    remedy: str


_CLIENT: Final = "The client has to send another request: its error message says what is wrong and where."
_GATEWAY: Final = "The gateway's configuration is wrong: `bbr doctor` names the line."
_LIMIT: Final = "The client can send less, or you raise the limit if the requests are legitimate."
_FAULT: Final = "The gateway does not speak ext_proc as Envoy does. Look for a proxy between it and the router."

REASONS: Final[Mapping[str, Reason]] = {
    # The model.
    "model-not-found": Reason(
        "The model table does not hold the requested model.",
        "Compare the unknown models with the names in the table: a ConfigMap without the label "
        "inference.networking.k8s.io/bbr-managed, another namespace, or a letter that differs.",
    ),
    "model-not-allowed": Reason(
        "The client may not use the requested model.", "Add the client to the model's `allow` list if it should."
    ),
    "table-incomplete": Reason(
        "The model table was not complete yet, and the requested model was not in it so far.",
        "It ends by itself once all sources were read. If it lasts, a source fails: see the sources.",
    ),
    "model-missing": Reason("The request names no model, and every request must name one.", _CLIENT),
    "default-model-unknown": Reason(
        "The request names no model, and the model table does not hold the default model.",
        "Add the model of --default-model to the table, or name another one.",
    ),
    "model-not-string": Reason("`model` is not a string.", _CLIENT),
    "model-empty": Reason("`model` is empty.", _CLIENT),
    "model-too-long": Reason("`model` is longer than --max-model-length.", _LIMIT),
    "model-illegal": Reason("`model` has control characters, invisible characters, or blanks at an end.", _CLIENT),
    "model-duplicate": Reason("The request has two `model` fields, and servers may read either of them.", _CLIENT),
    "model-spelling": Reason("A key is spelled so that only some servers read it as `model`.", _CLIENT),
    "field-duplicate": Reason("A field of --body-field occurs twice in the body.", _CLIENT),
    "field-spelling": Reason("A key is spelled so that only some servers read it as a field of --body-field.", _CLIENT),
    "field-type": Reason("A field of --body-field is an array or an object, or is not within an object.", _CLIENT),
    "field-too-long": Reason("A field of --body-field is longer than its max-bytes.", _LIMIT),
    "field-illegal": Reason(
        "A field of --body-field has control characters, invisible characters, or blanks at an end.",
        "The client can send another value. With the option sha256 any value will do.",
    ),
    "model-disagrees": Reason(
        "The URL and the body name different models.", "Correct the client, or choose another --url-model."
    ),
    "model-in-list": Reason(
        "The body is a JSON list, or names serde_json's own key: some servers find a model in it.", _CLIENT
    ),
    "path-ambiguous": Reason("Servers can read the model in the URL in different ways.", _CLIENT),
    "alias-not-replaced": Reason(
        "The request is for an alias, in a body in which the router can't replace it: a form, or an encoded one.",
        "Choose --alias-rewrite=header or --forward-decoded, or let the client name the model itself.",
    ),
    "models-list-too-long": Reason(
        "The list of models is longer than --serve-models-list allows, so the request went on.",
        "Give a larger size to --serve-models-list.",
    ),
    # JSON.
    "invalid-json": Reason("The body is not valid JSON.", _CLIENT),
    "invalid-utf8": Reason("The body has bytes that are not UTF-8.", _CLIENT),
    "trailing-bytes": Reason("More bytes follow after the JSON document.", _CLIENT),
    "trailing-blanks": Reason("More than 64 KiB of blanks follow after the JSON document.", _CLIENT),
    "byte-order-mark": Reason("The body begins with a byte order mark, which JSON forbids.", _CLIENT),
    "non-finite-number": Reason("The body has NaN, Infinity or a number that is too large.", _CLIENT),
    "lone-surrogate": Reason("The body has half of a surrogate pair.", _CLIENT),
    "too-deep": Reason("The body is nested more than 900 levels deep.", _CLIENT),
    # Forms.
    "multipart-boundary": Reason("The Content-Type of a multipart body has no usable boundary.", _CLIENT),
    "multipart-invalid": Reason("The multipart body is broken, or servers read it in different ways.", _CLIENT),
    "multipart-model": Reason("Only some servers read a part of the multipart body as `model`.", _CLIENT),
    "multipart-too-many": Reason("The multipart body has too many parts or fields.", _CLIENT),
    "multipart-cut-off": Reason("The multipart body ends before its last boundary.", _CLIENT),
    "form-model": Reason("Only some servers read a field of the form as `model`.", _CLIENT),
    # Headers, URLs and encodings.
    "content-type-too-long": Reason("The Content-Type is longer than 1 KiB.", _CLIENT),
    "content-type-ambiguous": Reason("Servers could read another model from the body, by its Content-Type.", _CLIENT),
    "charset-unknown": Reason("The Content-Type names another charset than UTF-8.", _CLIENT),
    "headers-stray": Reason("More than 50 header fields would have to be removed.", _CLIENT),
    "headers-too-many": Reason("The request has more than 1,000 header fields.", _CLIENT),
    "headers-too-large": Reason("The header fields take more than 128 KiB.", _CLIENT),
    "url-too-long": Reason("The path is longer than 4 KiB, or the query longer than 8 KiB.", _CLIENT),
    "encoding-unknown": Reason("The router does not know the Content-Encoding.", _CLIENT),
    "encoding-layers": Reason("The body is encoded more than three times, or a form more than once.", _CLIENT),
    "encoding-corrupt": Reason("The body is not what its Content-Encoding says.", _CLIENT),
    "encoding-cut-off": Reason("The encoded body ends too early.", _CLIENT),
    "encoding-ambiguous": Reason("Servers can also read the body without decoding it.", _CLIENT),
    "encoding-members": Reason("The encoded body has too many streams in a row.", _CLIENT),
    # Size and time.
    "body-too-large": Reason(
        "The body is larger than --max-body-bytes.", "Raise --max-body-bytes, or choose --over-limit=pass."
    ),
    "decoded-too-large": Reason("The decoded body is larger than --max-body-bytes.", _LIMIT),
    "decoded-ratio": Reason("The decoded body is more than 200 times as large as the encoded one.", _CLIENT),
    "no-room": Reason(
        "The process held --max-buffered-bytes of bodies and had no room for one more.",
        "Add replicas, or raise --max-buffered-bytes and the memory limit.",
    ),
    "body-timeout": Reason(
        "The body made no progress for --body-idle-seconds.", "The client or its network stood still. It can try again."
    ),
    "body-too-slow": Reason(
        "The body came slower than --body-min-rate.", "The client's network is too slow, or somebody holds memory."
    ),
    # The gateway's settings.
    "body-cut-off": Reason("The gateway showed only the first part of the body.", _GATEWAY),
    "headers-not-sent": Reason("The gateway did not show the request's headers first.", _GATEWAY),
    "body-in-pieces": Reason("The gateway sends the body in pieces of STREAMED mode.", _GATEWAY),
    "body-mode-unknown": Reason("The gateway uses a body mode that the router does not know.", _GATEWAY),
    # Faults of the protocol.
    "undecodable-message": Reason("The gateway sent a message that is not a ProcessingRequest.", _FAULT),
    "silent-stream": Reason("The gateway opened a stream and sent nothing in time.", _FAULT),
    "headers-twice": Reason("The gateway sent the request's headers twice.", _FAULT),
    "body-twice": Reason("The gateway sent more of the body after its end.", _FAULT),
    "trailers-early": Reason("The gateway sent trailers before the headers.", _FAULT),
    "unknown-message": Reason("The gateway sent a message that the router does not know.", _FAULT),
}

UNKNOWN: Final = Reason("This version has no sentence for it.", "Look it up in docs/reference/answers.md.")


def reason(name: str) -> Reason:
    """Return what a reason means."""
    return REASONS.get(name, UNKNOWN)
