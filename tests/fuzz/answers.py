"""Any octets as what a Kubernetes API server answers: objects, or a failure with one sentence."""

import msgspec

from bbr.sources import answers
from bbr.sources.kube_api import KubernetesError
from bbr.sources.kubernetes import ConfigMap
from bbr.sources.routes import HTTPRoute, wanted


def check(octets: bytes) -> None:
    for kind in (ConfigMap, HTTPRoute):
        for read, frames in ((answers._page, answers.page_frames), (answers._event, answers.event_frames)):
            try:
                answers._read(lambda octets, read=read, kind=kind: read(kind, octets), octets)  # type: ignore[misc]
                failed = ""
            except KubernetesError as error:
                failed = str(error)
            failure, *rest = frames(kind, octets)
            said = msgspec.msgpack.decode(failure, type=answers._Failure | None)
            assert (said.message if said else "") == failed
            for each in rest:
                msgspec.msgpack.decode(each)
            if kind is HTTPRoute and not failed and read is answers._event and len(rest) == 3:
                wanted(msgspec.msgpack.decode(rest[2], type=HTTPRoute))
