"""Questions to the lab's API server, as its administrator."""

import ssl
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.lab import pki

# What each kind of PATCH is called; a merge patch of lists replaces them, a strategic one knows their keys.
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"

_TIMEOUT_SECONDS: Final = 60.0


class KubeApi:
    """A client."""

    def __init__(self, authority: Path) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        headers = {"Authorization": f"Bearer {pki.ADMIN_TOKEN}", "Accept": "application/json"}
        self._client = httpx.AsyncClient(
            base_url=pki.API, headers=headers, verify=context, timeout=_TIMEOUT_SECONDS, trust_env=False
        )

    async def get(self, path: str) -> dict[str, Any]:
        """Return an object, or a list of them.

        Raises:
            httpx.HTTPError: no answer, or an error's.
        """
        return self._document(await self._client.get(path))

    async def items(self, path: str) -> list[dict[str, Any]]:
        """Return the objects of a list, which may be some moments old: from the API server's cache."""
        found: list[dict[str, Any]] = (await self.get(f"{path}?resourceVersion=0"))["items"]
        return found

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object; see `get`."""
        return self._document(await self._client.post(path, json=body))

    async def patch(self, path: str, body: dict[str, Any], kind: str = MERGE) -> dict[str, Any]:
        """Change an object; see `get`."""
        return self._document(await self._client.patch(path, json=body, headers={"Content-Type": kind}))

    async def delete(self, path: str, uid: str) -> None:
        """Delete an object at once if it is still the one with this uid; one that is gone is fine."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}, "gracePeriodSeconds": 0}
        answer = await self._client.request("DELETE", path, json=options)
        if answer.status_code not in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
            answer.raise_for_status()

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    @staticmethod
    def _document(answer: httpx.Response) -> dict[str, Any]:
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
