"""Take the pictures of the status page in docs/. Run: python -m tests.dashboards.status_pictures [--seconds 300]

The numbers are those of a real router under requests over gRPC; its ConfigMaps and HTTPRoutes come from the API server
that tests use. Needs the program `chromium`.
"""

import argparse
import asyncio
import io
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import PIL.Image  # comes with matplotlib
from playwright.sync_api import sync_playwright

from bbr.exchange.policy import BodyMode
from bbr.headers import BASE_MODEL_HEADER
from bench.harness import messages
from bench.harness.background import Background
from bench.harness.fake_kubernetes import HTTP_ROUTES, FakeKubernetes
from bench.harness.grpc_client import PROCESS
from bench.harness.processes import Bbr, serving
from deploy.local.browser import complaints, launch_options

DIRECTORY = Path(__file__).resolve().parents[2] / "docs" / "pictures"
# Widths, and how much of the page's height is shown: the rest of it is tables.
SIZES = {390: 1900, 768: 2000, 1600: 2200}
SECONDS = 300.0
BOOKMARK_SECONDS = 20.0

QWEN, PHI, GEMMA = "Qwen/Qwen2.5-3B-Instruct", "microsoft/Phi-3-mini-4k-instruct", "google/gemma-3-12b-it"
POOLS = {
    QWEN: ("qwen-pool", ("sql-lora", "summarize-lora")),
    PHI: ("phi-pool", ("travel-lora",)),
    GEMMA: ("gemma-pool", ()),
}
# What clients ask for, and how often.
ASKED = {QWEN: 7, "sql-lora": 5, "summarize-lora": 2, PHI: 4, "travel-lora": 3, GEMMA: 2, "best": 2, "gpt-none": 0.2}


def put_objects(kubernetes: FakeKubernetes, pools: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
    """Put a ConfigMap and an HTTPRoute for each base model."""
    for model, (pool, adapters) in pools.items():
        data = {"baseModel": model, "adapters": "".join(f"- {each}\n" for each in adapters)}
        if model == QWEN:
            data["aliases"] = f"best: {QWEN}\n"
        kubernetes.put(pool, data=data)
        header = {"name": BASE_MODEL_HEADER, "value": model}
        rule = {"matches": [{"headers": [header]}], "backendRefs": [{"kind": "InferencePool", "name": pool}]}
        kubernetes.put(pool, path=HTTP_ROUTES, spec={"rules": [rule]})


def requests(port: int, seconds: float, ended: threading.Event) -> None:
    """Make requests until `ended`, in waves, some of which fail."""
    head = messages.request_headers(mode=BodyMode.FULL_DUPLEX_STREAMED)
    chance = random.Random(port)
    begun = time.monotonic()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        process = channel.stream_stream(PROCESS)
        while not ended.is_set():
            share = (time.monotonic() - begun) / seconds
            name = chance.choices([*ASKED], [*ASKED.values()])[0]
            body = json.dumps({"model": name, "prompt": "x" * int(chance.lognormvariate(6.5, 1.5))}).encode()
            if chance.random() < (0.06 if 0.35 < share < 0.5 else 0.003):
                body = body[:-1]
            cut = len(body) // 2
            pieces = [messages.request_body(body[:cut]), messages.request_body(body[cut:], end_of_stream=True)]
            list(process(iter((head, *pieces))))
            time.sleep(chance.expovariate(25 * (0.6 + 0.4 * abs((4 * share) % 2 - 1))))


async def bookmarks(kubernetes: FakeKubernetes) -> None:
    """Tell watches now and then that nothing has changed, as an API server does."""
    while True:
        await asyncio.sleep(BOOKMARK_SECONDS)
        kubernetes.bookmark()


@contextmanager
def loaded(seconds: float, threads: int = 2) -> Iterator[tuple[Bbr, str]]:
    """Give a router that has been under load for so long, and still is, and its page's address."""
    with Background() as background, tempfile.TemporaryDirectory() as scratch:
        kubernetes = FakeKubernetes()
        background.run(kubernetes.start())
        put_objects(kubernetes, POOLS)
        config = kubernetes.kubeconfig(Path(scratch))
        flags = ("--kubernetes", f"--kubeconfig={config}", "--discover-routes")
        with serving(*flags, admin=True) as router:
            ended = threading.Event()
            loads = [threading.Thread(target=requests, args=(router.port, seconds, ended)) for _ in range(threads)]
            telling = asyncio.run_coroutine_threadsafe(bookmarks(kubernetes), background.loop)
            for load in loads:
                load.start()
            try:
                time.sleep(seconds)
                yield router, f"http://127.0.0.1:{router.admin_port}/"
            finally:
                ended.set()
                telling.cancel()
                for load in loads:
                    load.join()
        background.run(kubernetes.stop())


def shrunk(picture: bytes) -> bytes:
    """Return a PNG with a palette, which for a page of few colours is a third of the size."""
    found = io.BytesIO()
    found_image = PIL.Image.open(io.BytesIO(picture)).convert("RGB")
    palette = PIL.Image.Quantize.MEDIANCUT
    found_image.quantize(256, palette, dither=PIL.Image.Dither.NONE).save(found, "PNG", optimize=True)
    return found.getvalue()


def pictures(url: str, directory: Path, sizes: Mapping[int, int] = SIZES) -> list[Path]:
    """Take a picture of each size, by day and by night, and return the files."""
    written = []
    with sync_playwright() as playwright, playwright.chromium.launch(**launch_options()) as browser:
        for width, height in sizes.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                found = complaints(page)
                page.goto(url)
                page.evaluate("refresh()")
                file = directory / f"status-{width}-{scheme}.png"
                file.write_bytes(shrunk(page.screenshot()))
                page.close()
                if found:
                    raise RuntimeError(f"the page complains: {found}")
                written.append(file)
    return written


def main() -> None:
    """Run a router under load, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=DIRECTORY)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the router is under load before")
    given = parser.parse_args()
    given.directory.mkdir(exist_ok=True)
    with loaded(given.seconds) as (_, url):
        for file in pictures(url, given.directory):
            print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
