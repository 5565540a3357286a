"""The console as a person meets it: seconds to the first page and to an adapter, and pictures of the way.

    python benchmarks/console.py --out benchmarks/results/console.json --pictures docs/console

The service is started as a user starts it, in a process of its own, on a home that is new. Everything else is clicks in
a browser: first start, the sample job, a second person's decision, the watch, a spreadsheet; and a job made of inputs
alone, which fails. With `--home FOLDER` a home stays, and a second call goes on with the jobs that are there.
"""

import argparse
import csv
import io
import os
import re
import shutil
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

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
LANGUAGES = ("en", "ja")
SIZE, PHONE = {"width": 1180, "height": 820}, {"width": 390, "height": 780}
COLOURS = 32  # of a picture, so that it stays small
PATIENCE = 2 * 60 * 60 * 1000


@contextmanager
def served(home: Path, generator: str) -> Iterator[str]:
    """The link of the first start of a service on a home that has no administrator yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("prompt2lora")),
        "serve",
        "--port",
        str(port),
        "--generator",
        generator,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PROMPT2LORA_HOME": str(home), "PYTHONUNBUFFERED": "1"},
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
    """From the first start to a watched release and an answered file, in clicks; returns the seconds of what people
    wait for. Fails if the sample does not pass its checks."""
    root = link.partition("/first")[0]
    seconds: dict[str, float] = {}

    def person() -> Any:
        context = browser.new_context(viewport=SIZE, locale="en-GB")
        context.set_default_timeout(PATIENCE)
        return context.new_page()

    def shoot(page: Any, name: str, ready: Callable[[Any], None] = lambda page: None) -> None:
        """What is seen of the page without scrolling, in every language."""
        if pictures is None:
            return
        pictures.mkdir(parents=True, exist_ok=True)
        address = re.sub(r"[?&](done|lang)=\w+", "", page.url)
        for language in reversed(LANGUAGES):
            page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}", wait_until="networkidle")
            ready(page)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            small = picture.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
            small.save(pictures / f"{name}-{language}.png", optimize=True)

    def asked(page: Any) -> None:
        page.click("form:has(#text) button")
        page.locator(".answer").nth(1).wait_for()

    def typed(page: Any) -> dict[str, str]:
        """What the sample fills in."""
        page.goto(f"{root}/new?sample=1")
        return {name: page.input_value(f"#{name}") for name in ("instruction", "prompts", "inspection")}

    def missing(job: str) -> bool:
        """Whether nothing has been made for a job."""
        admin.goto(f"{root}/jobs/{job}/try")
        return admin.locator(".standing").count() == 0

    admin = person()
    admin.goto(link)
    admin.fill("#name", "the foreman")
    admin.click("main form button")
    token = admin.input_value("#token")
    sample = typed(admin)
    shoot(admin, "new", lambda page: page.locator("#advice .count-line").wait_for())
    if missing("sample"):
        admin.goto(f"{root}/new?sample=1")
        began = time.perf_counter()
        admin.click("main form button.big")
        admin.wait_for_url("**/try?**")
        seconds["click to the sample made and inspected"] = time.perf_counter() - began
    admin.goto(f"{root}/jobs/sample/try")
    began = time.perf_counter()
    asked(admin)
    seconds["both answers side by side"] = time.perf_counter() - began
    admin.goto(f"{root}/jobs/sample/inspection")
    shoot(admin, "inspection")

    admin.goto(f"{root}/keys")
    admin.fill("#name", "the manager")
    admin.select_option("#role", "approver")
    admin.click("button[value=now]")
    second = person()
    second.goto(f"{root}/sign-in")
    second.fill("#key", admin.input_value("#token"))
    second.click("main form button")
    second.goto(f"{root}/jobs/sample/decision")
    shoot(second, "decision")
    second.set_default_timeout(60_000)  # it passed, or this fails here
    second.fill("#reason", "Two weeks of notes were checked by hand.")
    second.click("button[value=approve]")
    second.wait_for_url("**/watch?**")
    second.set_default_timeout(PATIENCE)
    second.click("main form button")
    second.fill("#checked", "40")
    second.fill("#corrected", "1")
    second.click("form[action$=corrections] button")
    second.wait_for_url("**/watch?done=**")
    shoot(second, "watch")

    notes = admin.context.new_page()
    notes.goto(f"{root}/jobs/sample/sheet")
    rows = ["input", *sample["prompts"].splitlines()]
    notes.set_input_files("#sheet_file", {"name": "notes.csv", "mimeType": "text/csv", "buffer": as_rows(rows)})
    began = time.perf_counter()
    notes.click("form:has(#sheet_file) button")
    notes.wait_for_url("**/sheet?**")
    seconds[f"click to a file of {len(rows) - 1} rows answered"] = time.perf_counter() - began
    shoot(notes, "sheet")

    if missing("inputs-alone"):
        admin.goto(f"{root}/new")
        admin.fill("#job", "inputs-alone")
        for field in ("instruction", "prompts"):
            admin.fill(f"#{field}", sample[field])
        began = time.perf_counter()
        admin.click("main form button.big")
        admin.wait_for_url("**/try?**")
        seconds["click to an adapter to try, no right answers given"] = time.perf_counter() - began
        admin.goto(f"{root}/jobs/inputs-alone/inspection")
        admin.fill("#inspection", sample["inspection"])
        admin.click("form:has(#inspection) button")
        admin.wait_for_url("**/inspection?**")
    second.goto(f"{root}/jobs/inputs-alone/decision")
    shoot(second, "failed")

    admin.goto(root)
    shoot(admin, "overview")
    admin.set_viewport_size(PHONE)
    admin.goto(f"{root}/jobs/sample/watch")
    shoot(admin, "phone")
    assert token.startswith("p2l_")
    return seconds


def as_rows(texts: list[str]) -> bytes:
    """A CSV file of one column."""
    out = io.StringIO()
    csv.writer(out).writerows([text] for text in texts)
    return out.getvalue().encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--generator", default="smollm2-135m-instruct")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from prompt2lora.base.versions import origin

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        began = time.perf_counter()
        with served(options.home or Path(place), options.generator) as link:
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
    if options.out:
        write_json(options.out, report)
    for name, value in report["seconds"].items():
        print(f"{value:8.2f} s  {name}")


if __name__ == "__main__":
    main()
