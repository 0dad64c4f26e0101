"""The system's Chromium for playwright: what the status page's tests and its pictures need.

playwright drives it, and downloads no browser of its own. Chromium talks to 127.0.0.1 only. It is a program `chromium`
(Debian: chromium) in the PATH.
"""

import shutil
from typing import Any, Final

PROGRAM: Final = "chromium"

_FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class BrowserError(Exception):
    """There is no Chromium, or the page has errors."""


def launch_options() -> dict[str, Any]:
    """Return the options of playwright's `chromium.launch`; its own flags switch updates and background traffic off.

    Raises:
        BrowserError: there is no Chromium.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise BrowserError(f"there is no program {PROGRAM} (Debian: apt-get install chromium)")
    # Its sandbox needs a user other than root, or namespaces.
    return {"executable_path": program, "args": list(_FLAGS), "chromium_sandbox": False}


def complaints(page: Any) -> list[str]:
    """Return a list that gets what should not happen on a page of playwright's, sync or async.

    That is exceptions, lines on the console (refused assets among them), and failed requests.
    """
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("requestfailed", lambda request: found.append(f"{request.url}: {request.failure}"))
    return found
