"""A headless Chromium, driven by its DevTools protocol: what the status page's tests and its picture need, and no more.

async with Chromium() as browser:
    page = await browser.open(url)
    text = await page.evaluate("document.body.innerText")

It talks to loopback addresses only. Needs a program `chromium` (Debian: chromium) in the PATH.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import tempfile
from typing import Any, Final, Self

import aiohttp

PROGRAM: Final = "chromium"

# For the program to start, for an answer, and for whatever a page is awaited to do.
SECONDS: Final = 30.0

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # its sandbox needs a user other than root, or namespaces
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)
_LISTENING: Final = re.compile(rb"DevTools listening on (ws://\S+)")

Event = dict[str, Any]


class ChromiumError(Exception):
    """Chromium is missing, does not start, or does not do what it is told."""


class Chromium:
    """An async context manager: a browser with a new profile, gone after it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Event]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Self:
        program = shutil.which(PROGRAM)
        if program is None:
            raise ChromiumError(f"there is no program {PROGRAM} (Debian: apt-get install chromium)")
        self._profile = tempfile.TemporaryDirectory(prefix="bbr-chromium-", ignore_cleanup_errors=True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(program, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            async with asyncio.timeout(SECONDS):
                address = await self._address()
            self._draining = asyncio.create_task(self._drain())
            self._session = aiohttp.ClientSession()
            self._socket = await self._session.ws_connect(address, max_msg_size=0)
            self._reading = asyncio.create_task(self._read())
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def open(
        self, url: str = "about:blank", *, scripts: bool = True, width: int = 1200, dark: bool = False
    ) -> "Page":
        """Open a page in a context of its own, without cookies or a cache, and return it once it has been loaded.

        Args:
            scripts: whether the page may run JavaScript.
            width: of the window, in CSS pixels.
            dark: what prefers-color-scheme says.
        """
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Network", "Log", "Runtime"):
            await page.send(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page.send("Emulation.setEmulatedMedia", features=[scheme])
        await page.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        await page.send("Emulation.setScriptExecutionDisabled", value=not scripts)
        await page.go(url)
        return page

    async def send(self, method: str, session: str | None = None, **parameters: Any) -> Event:
        """Tell the browser, or the page of a session, to do something; return its result.

        Raises:
            ChromiumError: it does not do it, and says why.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(SECONDS):
            found = await answer
        if "error" in found:
            raise ChromiumError(f"{method}: {found['error']['message']}")
        result: Event = found["result"]
        return result

    async def _address(self) -> str:
        assert self._process.stderr is not None  # noqa: S101 (it is a pipe)
        said = []
        async for line in self._process.stderr:
            if found := _LISTENING.search(line):
                return found[1].decode()
            said.append(line.decode(errors="replace"))
        raise ChromiumError(f"{PROGRAM} does not start:\n{''.join(said)}")

    async def _drain(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 (it is a pipe)
        async for _ in self._process.stderr:
            pass

    async def _read(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].take(message)

    async def _end(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and asyncio has yet to hear of it
                os.killpg(process.pid, signal.SIGKILL)  # its own session: all of its processes, and no other
        for name in ("_reading", "_draining"):  # both end with it
            if task := getattr(self, name, None):
                await asyncio.wait({task})
        if socket := getattr(self, "_socket", None):
            await socket.close()
        if session := getattr(self, "_session", None):
            await session.close()
        if process is not None:
            await process.wait()
        self._profile.cleanup()


class Page:
    """A page of the browser, and what happened to it.

    Attributes:
        requests: the URLs that it asked for, in order.
        complaints: what should not happen: exceptions, refused assets, failed requests, lines on the console, dialogs.
    """

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        self._loaded = asyncio.Event()
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def send(self, method: str, **parameters: Any) -> Event:
        """See Chromium.send."""
        return await self._browser.send(method, self._session, **parameters)

    def take(self, event: Event) -> None:
        """Note what has happened."""
        parameters = event["params"]
        match event["method"]:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Log.entryAdded" if parameters["entry"]["level"] in ("warning", "error"):
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(parameters["args"]))
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"a dialog: {parameters['message']}")

    async def go(self, url: str) -> None:
        """Load another page, and return once it is there.

        Raises:
            ChromiumError: it can't be loaded.
        """
        self._loaded.clear()
        found = await self.send("Page.navigate", url=url)
        if "errorText" in found:
            raise ChromiumError(f"{url}: {found['errorText']}")
        async with asyncio.timeout(SECONDS):
            await self._loaded.wait()

    async def enter(self, selector: str, text: str) -> None:
        """Type a text into a field of a form, and Enter; return once the page that this leads to is there."""
        self._loaded.clear()
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.send("Input.insertText", text=text)
        for sort in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            await self.send("Input.dispatchKeyEvent", type=sort, **key)
        async with asyncio.timeout(SECONDS):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """Return an expression's value, a promise's when it has one.

        Raises:
            ChromiumError: it throws.
        """
        found = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise ChromiumError(f"{expression}: {found['exceptionDetails']['exception']['description']}")
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Return once an expression holds, looked at whenever the document changes.

        Raises:
            TimeoutError: it does not within SECONDS.
        """
        await self.evaluate(
            "new Promise((resolve) => {"
            f"const look = () => {{ if ({condition}) {{ observer.disconnect(); resolve(true); }} }};"
            "const observer = new MutationObserver(look);"
            "observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});"
            "look(); })"
        )

    async def screenshot(self) -> bytes:
        """Return a picture of the whole page, as PNG."""
        found = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(found["data"])
