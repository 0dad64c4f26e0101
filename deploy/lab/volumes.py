"""A pod's volumes: folders with what ConfigMaps, Secrets, tokens and the pod itself say, kept up to date.

As with kubelet, a volume's files are links into a folder `..data`, which is a link itself and replaced in one step.
What reads them sees all of a change or nothing of it.
"""

import base64
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import httpx

from deploy.lab.containers import downward
from deploy.lab.kube import KubeApi

_DATA: Final = "..data"
# What kubelet asks for where a pod says nothing.
TOKEN_SECONDS: Final = 3607
# After so much of its time kubelet gets another token.
_RENEWED_AFTER: Final = 0.8


class VolumeError(Exception):
    """A volume can't be filled; the message says why, as an event of kubelet's would."""


class Volumes:
    """The volumes of one pod.

    Args:
        api: to read from.
        pod: the Pod object.
        folder: for the volumes, a folder each.
        fields: what the downward API says of the pod, by its paths.
        tokens: a folder of tests' own tokens, each named NAMESPACE_SERVICEACCOUNT: pods get these instead.
    """

    def __init__(
        self, api: KubeApi, pod: Mapping[str, Any], folder: Path, fields: Mapping[str, str], tokens: Path
    ) -> None:
        self._api = api
        self._meta = pod["metadata"]
        self._account = pod["spec"].get("serviceAccountName", "default")
        self._volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        self._folder = folder
        self._fields = fields
        self._own_token = tokens / f"{self._meta['namespace']}_{self._account}"
        self._tokens: dict[str, tuple[bytes, float]] = {}  # path in the volume -> token, and when to renew it

    def path(self, name: str) -> Path:
        """Return a volume's folder."""
        return self._folder / name

    async def fill(self) -> None:
        """Write all of them, or write anew what has changed.

        Raises:
            VolumeError: something is missing, or of a kind that the lab does not know.
        """
        for name, volume in self._volumes.items():
            self.path(name).mkdir(parents=True, exist_ok=True)
            if "emptyDir" not in volume:
                try:
                    publish(self.path(name), await self._content(volume))
                except httpx.HTTPError as error:
                    raise VolumeError(f"volume {name}: the API server does not answer: {error!r}") from error

    async def _content(self, volume: Mapping[str, Any]) -> dict[str, bytes]:
        if "configMap" in volume:
            return await self._object("configmaps", volume["configMap"], volume["configMap"].get("name"))
        if "secret" in volume:
            return await self._object("secrets", volume["secret"], volume["secret"].get("secretName"))
        if "downwardAPI" in volume:
            return self._downward(volume["downwardAPI"])
        if "projected" not in volume:
            raise VolumeError(f"volume {volume['name']}: of no kind that the lab knows")
        content: dict[str, bytes] = {}
        for source in volume["projected"]["sources"]:
            if "serviceAccountToken" in source:
                content[source["serviceAccountToken"]["path"]] = await self._token(source["serviceAccountToken"])
            elif "configMap" in source:
                content |= await self._object("configmaps", source["configMap"], source["configMap"]["name"])
            elif "secret" in source:
                content |= await self._object("secrets", source["secret"], source["secret"]["name"])
            elif "downwardAPI" in source:
                content |= self._downward(source["downwardAPI"])
        return content

    async def _object(self, kind: str, source: Mapping[str, Any], name: str | None) -> dict[str, bytes]:
        try:
            found = await self._api.get(f"/api/v1/namespaces/{self._meta['namespace']}/{kind}/{name}")
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND and source.get("optional"):
                return {}
            raise VolumeError(f"{kind} {name}: {error.response.status_code}") from error
        text: Mapping[str, str] = found.get("data") or {}
        decode = base64.b64decode if kind == "secrets" else str.encode
        content = {key: decode(value) for key, value in text.items()}
        content |= {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        items = source.get("items")
        if items is None:
            return content
        return {item["path"]: content[item["key"]] for item in items if item["key"] in content}

    async def _token(self, wanted: Mapping[str, Any]) -> bytes:
        if self._own_token.is_file():
            return self._own_token.read_bytes()
        token, renew_at = self._tokens.get(wanted["path"], (b"", 0.0))
        if time.monotonic() < renew_at:
            return token
        began = time.monotonic()
        token = await self._request_token(wanted)
        seconds = wanted.get("expirationSeconds", TOKEN_SECONDS)
        self._tokens[wanted["path"]] = token, began + _RENEWED_AFTER * seconds
        return token

    async def _request_token(self, wanted: Mapping[str, Any]) -> bytes:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": self._meta["name"], "uid": self._meta["uid"]}
        spec: dict[str, Any] = {
            "expirationSeconds": wanted.get("expirationSeconds", TOKEN_SECONDS),
            "boundObjectRef": bound,
        }
        if wanted.get("audience"):
            spec["audiences"] = [wanted["audience"]]
        path = f"/api/v1/namespaces/{self._meta['namespace']}/serviceaccounts/{self._account}/token"
        found = await self._api.post(path, {"spec": spec})
        return str(found["status"]["token"]).encode()

    def _downward(self, source: Mapping[str, Any]) -> dict[str, bytes]:
        return {
            item["path"]: downward(self._fields, item["fieldRef"]["fieldPath"]).encode() for item in source["items"]
        }


def publish(folder: Path, content: Mapping[str, bytes]) -> None:
    """Make `content` what the files of a volume hold, in one step; nothing happens if they do already."""
    link = folder / _DATA
    if link.is_dir() and _read(link) == dict(content):
        return
    before = link.resolve() if link.exists() else None
    fresh = folder / f"..{uuid.uuid4().hex[:12]}"
    for name, octets in content.items():
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).write_bytes(octets)
    fresh.mkdir(exist_ok=True)
    (folder / ".new").symlink_to(fresh.name)
    os.replace(folder / ".new", link)
    tops = {PurePosixPath(name).parts[0] for name in content}
    for top in tops:
        if not (folder / top).is_symlink():
            (folder / top).symlink_to(f"{_DATA}/{top}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def _read(link: Path) -> dict[str, bytes]:
    folder = link.resolve()
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
