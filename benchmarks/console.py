"""The console as a person meets it: seconds to the first page and to an adapter, and pictures of every page.

    python benchmarks/console.py --out benchmarks/results/console.json --pictures docs/console

The service is started as a user starts it, in a process of its own, on a home that is new. Everything else is clicks in
a browser: first start, the sample job, a second person's decision, the watch.
"""

import argparse
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from prompt2lora.ground.files import write_json

CHROMIUM = "/usr/bin/chromium"
LANGUAGES = ("en", "ja")
SIZE = {"width": 1180, "height": 820}

PATIENCE = 15 * 60 * 1000


@contextmanager
def served(place: Path) -> Iterator[str]:
    """The link of the first start of a service whose home is below `place`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("prompt2lora")), "serve", "--port", str(port)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PROMPT2LORA_HOME": str(place / "home"), "PYTHONUNBUFFERED": "1"},
    )
    try:
        for line in process.stdout or ():
            link = re.search(r"http\S+/console/first\?code=\S+", line)
            if link:
                yield link[0]
                return
        raise SystemExit("the service ended before it told its first link")
    finally:
        process.terminate()
        process.wait(60)


def tour(browser: Any, link: str, pictures: Path | None) -> dict[str, float]:
    """From the first start to a watched release, in clicks; returns the seconds of what people wait for."""
    root = link.partition("/first")[0]
    seconds: dict[str, float] = {}

    def person() -> Any:
        context = browser.new_context(viewport=SIZE, locale="en-GB")
        context.set_default_timeout(PATIENCE)
        return context.new_page()

    def shoot(page: Any, name: str, ready: Callable[[Any], None] = lambda page: None) -> None:
        """A picture of the page in every language, in few colours, so that it stays small."""
        if pictures is None:
            return
        pictures.mkdir(parents=True, exist_ok=True)
        address = re.sub(r"[?&](done|lang)=\w+", "", page.url)
        for language in reversed(LANGUAGES):
            page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}", wait_until="networkidle")
            ready(page)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
            picture.quantize(96, kmeans=1).save(pictures / f"{name}-{language}.png", optimize=True)

    def asked(page: Any) -> None:
        page.click("form:has(#text) button")
        page.locator(".answer").nth(1).wait_for()

    admin = person()
    admin.goto(link)
    shoot(admin, "first")
    admin.fill("#name", "the foreman")
    admin.click("main form button")
    token = admin.input_value("#token")
    admin.goto(root)
    shoot(admin, "welcome")

    admin.goto(f"{root}/new")
    admin.fill("#job", "no-answers")
    sample = admin.context.new_page()
    sample.goto(f"{root}/new?sample=1")
    for field in ("instruction", "prompts"):
        admin.fill(f"#{field}", sample.input_value(f"#{field}"))
    sample.close()
    began = time.perf_counter()
    admin.click("main form button.big")
    admin.wait_for_url("**/try?**")
    seconds["click to an adapter to try, no right answers given"] = time.perf_counter() - began
    began = time.perf_counter()
    asked(admin)
    seconds["both answers side by side"] = time.perf_counter() - began

    admin.goto(f"{root}/new?sample=1")
    shoot(admin, "new", lambda page: page.locator("#advice .count-line").wait_for())
    began = time.perf_counter()
    admin.click("main form button.big")
    admin.wait_for_url("**/queue/**")
    admin.locator("#queued").wait_for()
    if "/queue/" in admin.url:  # it is not done yet
        shoot(admin, "queued")
    admin.wait_for_url("**/try?**")
    seconds["click to the sample inspected on its examples"] = time.perf_counter() - began
    shoot(admin, "try", asked)
    for tab in ("inspection", "decision", "refine", "report", "engineer"):
        admin.goto(f"{root}/jobs/sample/{tab}")
        shoot(admin, tab)
    admin.goto(f"{root}/jobs/sample/why")
    began = time.perf_counter()
    admin.click("main form button")
    admin.locator(".heat").wait_for()
    seconds["click to the reasons"] = time.perf_counter() - began
    shoot(admin, "why")

    admin.goto(f"{root}/keys")
    admin.fill("#name", "the manager")
    admin.select_option("#role", "approver")
    admin.click("button[value=now]")
    second = person()
    second.goto(f"{root}/sign-in")
    shoot(second, "sign-in")
    second.fill("#key", admin.input_value("#token"))
    second.click("main form button")
    second.goto(f"{root}/jobs/sample/decision")
    shoot(second, "decide")
    if not second.locator("button[value=approve]").count():  # it did not pass: what the page proposes is done
        admin.goto(f"{root}/jobs/sample/refine")
        began = time.perf_counter()
        admin.click("main form:has(#examples) button")
        admin.wait_for_url("**/refine?**")
        seconds["click to the second stage, learned and inspected"] = time.perf_counter() - began
        shoot(admin, "refined")
        second.goto(f"{root}/jobs/sample/decision")
        shoot(second, "decide-refined")
    if second.locator("button[value=approve]").count():
        second.fill("#reason", "Two weeks of notes were checked by hand.")
        second.click("button[value=approve]")
        second.wait_for_url("**/watch?**")
        shoot(second, "watch-start")
        second.click("main form button")
        second.fill("#checked", "40")
        second.fill("#corrected", "1")
        second.click("form[action$=corrections] button")
        second.wait_for_url("**/watch?done=**")
        shoot(second, "watch")
        second.goto(f"{root}/jobs/sample/return")
        shoot(second, "return")
    for name in ("", "record", "keys", "nothing"):
        admin.goto(f"{root}/{name}".rstrip("/"))
        shoot(admin, name or "overview")
    admin.emulate_media(color_scheme="dark")
    admin.goto(f"{root}/jobs/sample/inspection")
    shoot(admin, "dark")
    assert token.startswith("p2l_")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from prompt2lora.base.versions import origin

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        began = time.perf_counter()
        with served(Path(place)) as link:
            page = browser.new_page(viewport=SIZE)
            while True:
                try:
                    page.goto(link)
                    break
                except Exception:  # the link is told a moment before the port listens
                    time.sleep(0.1)
            first = time.perf_counter() - began
            page.close()
            seconds = {"start of the process to the first page": first, **tour(browser, link, options.pictures)}
        browser.close()
    report = {"seconds": {name: round(value, 2) for name, value in seconds.items()}, **origin()}
    write_json(options.out, report)
    for name, value in report["seconds"].items():
        print(f"{value:8.2f} s  {name}")


if __name__ == "__main__":
    main()
