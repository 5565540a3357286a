"""Ten thousand malformed and hostile requests: none is answered with a 5xx, none tells of the inside, none does harm.

    python benchmarks/hostile.py --out benchmarks/results/hostile.json
    python benchmarks/hostile.py --engine llama.cpp --requests 1000 --out benchmarks/results/hostile-llama-cpp.json

The real service in a process of its own. Requests are drawn from families: bytes that are no HTTP, headers that lie,
paths that climb, hosts and origins of others, keys that are guessed, JSON that is deep, huge, of other types or
encodings, texts that mean something to SQL, templates, shells, terminals and log files, uploads that are none. After
them the same process answers as before, everything verifies, and nothing was written outside of its home.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
from soak import Plant, Server, engine_options, engine_version

from prompt2lora.base.versions import command, hardware, versions
from prompt2lora.ground.files import write_json
from prompt2lora.serving.starting import EMBEDDED, ENGINES

TEXTS = (
    "' OR 1=1 --",
    "'; DROP TABLE jobs; --",
    "{{7*7}}",
    "${jndi:ldap://x/a}",
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "<script>alert(1)</script>",
    "\x00",
    "\x1b[2J",
    "a\r\nSet-Cookie: x=1",
    "%0d%0aX: y",
    "file:///etc/passwd",
    "$(id)",
    "`id`",
    "\u202e\u2066",
    "\ud800",
    "𝔘",
    "-1",
    "1e999",
    "NaN",
    "None",
    "__class__",
    "a" * 300,
    "job0@v1-00000000",
    "base",
    "",
    " ",
    "/",
    "\\",
    "con",
    "%00",
    "%ff",
    "{}",
    "[]",
    "true",
    "job0/../job1",
    "🙂" * 50,
)
ROUTES = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models/{}"),
    ("GET", "/admin/jobs/{}"),
    ("POST", "/admin/jobs"),
    ("POST", "/admin/jobs/{}/promote"),
    ("POST", "/admin/jobs/{}/rollback"),
    ("POST", "/admin/jobs/{}/generate"),
    ("GET", "/admin/jobs/{}/versions/{}/report"),
    ("POST", "/admin/jobs/{}/watch"),
    ("POST", "/admin/jobs/{}/outcomes"),
    ("GET", "/admin/queue/{}"),
    ("GET", "/admin/audit?after={}"),
    ("POST", "/admin/keys"),
    ("DELETE", "/admin/keys/{}"),
    ("GET", "/console/{}"),
    ("GET", "/console/static/{}"),
    ("POST", "/console/sign-in"),
    ("GET", "/console/first?code={}"),
    ("POST", "/console/new"),
    ("GET", "/{}"),
    ("PATCH", "/admin/jobs/{}"),
    ("TRACE", "/"),
    ("OPTIONS", "/v1/models"),
    ("PUT", "/metrics"),
    ("GET", "/console/jobs/{}"),
)


def value(random: Random, depth: int = 0) -> Any:
    """Any JSON value, mostly of the wrong kind."""
    kind = random.randrange(9 if depth < 4 else 6)
    if kind == 6:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind >= 7:
        return {random.choice([*FIELDS, *TEXTS[:6]]): value(random, depth + 1) for _ in range(random.randrange(5))}
    return random.choice(
        (None, True, random.choice(TEXTS), random.randint(-(2**70), 2**70), random.random() * 1e308, 1)
    )


FIELDS = (
    "model",
    "messages",
    "prompt",
    "role",
    "content",
    "max_tokens",
    "stop",
    "seed",
    "n",
    "stream",
    "temperature",
    "top_p",
    "tools",
    "job",
    "version",
    "reason",
    "prompts",
    "examples",
    "promised",
    "alpha",
    "release",
    "source",
    "bad",
    "name",
    "language",
)


EXAMPLE = {"input": "a", "output": "b"}
RIGHT: dict[str, dict[str, Any]] = {  # what a route wants; all but one field of it, now and then all
    "/v1/chat/completions": {"model": "job0", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3},
    "/v1/completions": {"model": "job0", "prompt": "hello", "max_tokens": 3, "stream": True},
    "/admin/jobs": {"job": "job7"},
    "/admin/jobs/{}/promote": {"version": "base", "reason": "r"},
    "/admin/jobs/{}/rollback": {"reason": "r"},
    "/admin/jobs/{}/watch": {"promised": {"correction": 0.5}, "alpha": 0.01},
    "/admin/jobs/{}/outcomes": {"release": 1, "source": "correction", "bad": 0},
    "/admin/keys": {"name": "a", "role": "viewer"},
}


def nearly(random: Random, route: str) -> bytes:
    """A right body with one field wrong."""
    chosen = dict(RIGHT.get(route, {"prompts": ["a"], "examples": [EXAMPLE]}))
    if random.random() < 0.8:
        chosen[random.choice([*chosen, *FIELDS])] = value(random)
    return json.dumps(chosen).encode("utf-8", "replace")


def body(random: Random, route: str) -> tuple[bytes, str]:
    """(bytes, content type)"""
    if random.random() < 0.5:
        return nearly(random, route), "application/json"
    kind = random.randrange(8)
    if kind == 0:
        return random.randbytes(random.randrange(200)), random.choice(("application/json", "text/plain", "x", ""))
    if kind == 1:
        depth = random.choice((10, 1000, 100_000))
        return b"[" * depth + b"]" * depth, "application/json"
    if kind == 2:
        long = b"a" * random.choice((10**5, 3 * 10**6))
        return b'{"model": "job0", "messages": [{"role": "user", "content": "' + long + b'"}]}', "application/json"
    if kind == 3:
        return b'{"model": NaN, "model": Infinity, "n": 1e400}', "application/json"
    if kind == 4:
        return json.dumps(value(random)).encode("utf-16"), "application/json"
    if kind == 5:
        boundary = random.choice(("b", ""))
        name = random.choice(TEXTS).encode("utf-8", "replace").replace(b'"', b"")
        part = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
            + name
            + b'"\r\n\r\n'
            + random.randbytes(50)
        )
        return part + b"\r\n--b--\r\n", f"multipart/form-data; boundary={boundary}"
    if kind == 6:
        pairs = [f"{random.choice(FIELDS)}={random.choice(TEXTS)}" for _ in range(4)]
        return "&".join(pairs).encode("utf-8", "replace"), "application/x-www-form-urlencoded"
    chosen = {field: value(random) for field in random.sample(FIELDS, 5)}
    return json.dumps({"model": "job0", **chosen}).encode("utf-8", "replace"), "application/json"


def asked(random: Random, server: Server, plant: Plant) -> tuple[str, bytes]:
    """(family, the bytes of one request)"""
    if random.random() < 0.1:
        return "no HTTP", random.choice(
            (
                random.randbytes(random.randrange(1, 300)),
                b"GET\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"\r\n" * 50,
                b"\x16\x03\x01\x02\x00",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                + b"Content-Length: 5\r\n\r\nzz\r\n",
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\nx",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
                b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
            )
        )
    method, path = random.choice(ROUTES)
    route = path
    while "{}" in path:
        text = (
            random.choice(TEXTS) if random.random() < 0.5 else random.choice(("job0", plant.versions["job0"][0].name))
        )
        path = path.replace("{}", text.encode("utf-8", "replace").decode("latin-1").replace(" ", "%20"), 1)
    path = "".join(letter for letter in path if letter > " " and letter != "\x7f") or "/"
    right = plant.asks if path.startswith("/v1") else plant.manages
    wrong = random.choice(
        (plant.asks, plant.manages, "", "p2l_" + "0" * 16 + "_" + "A" * 43, plant.asks[:-1], *TEXTS[:12])
    )
    token = right if random.random() < 0.8 else wrong
    headers = {
        "Host": random.choice((f"127.0.0.1:{server.port}",) * 40 + ("evil.example", "", "localhost@evil", "[::1")),
        "Authorization": f"Bearer {token}",
        "Connection": "close",
    }
    for name, choices in {
        "Cookie": (f"p2l_key={token}", "p2l_key=" + "a" * 4000, "lang=../../x"),
        "Origin": ("http://evil.example", "null"),
        "X-Request-Id": ("a\tb", "x" * 500, "../../etc"),
        "X-Prompt2lora-Timeout": ("-1", "nan", "1e999", "0.001", "soon"),
        "X-Forwarded-For": ("127.0.0.1", "evil"),
        "Accept-Language": ("ja;q=x", "../" * 30, "*" * 2000),
        "Content-Encoding": ("gzip", "br"),
        "Expect": ("100-continue",),
        "Upgrade": ("websocket",),
    }.items():
        if random.random() < 0.15:
            headers[name] = random.choice(choices)
    if path.startswith("/console") and random.random() < 0.7:
        headers["Cookie"] = f"p2l_key={plant.manages}"
    sent = b""
    if method in ("POST", "PUT", "PATCH") or random.random() < 0.1:
        sent, headers["Content-Type"] = body(random, route)
        headers["Content-Length"] = (
            str(len(sent)) if random.random() < 0.95 else random.choice(("0", "abc", str(len(sent) + 5)))
        )
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    head = "\r\n".join("".join(letter for letter in line if letter not in "\r\n\0") for line in lines)
    return f"{method} {path.split('/')[1].split('?')[0][:10]}", head.encode("latin-1", "replace") + b"\r\n\r\n" + sent


def exchange(port: int, request: bytes) -> bytes:
    """What comes back, perhaps nothing. Half of what is sent may be refused before it is read."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.settimeout(1.5)
            with suppress(OSError):
                line.sendall(request)
            found = b""
            while len(found) < 200_000 and (chunk := line.recv(65536)):
                found += chunk
            return found
    except TimeoutError:
        return b"(silence)"
    except ConnectionError:
        return b""


def leaks(reply: bytes, secrets: dict[str, bytes]) -> list[str]:
    return [name for name, secret in secrets.items() if secret in reply]


def files_outside(home: Path, place: Path) -> set[Path]:
    return {file for file in place.rglob("*") if home not in file.parents}


def attack(plant: Plant, server: Server, count: int, seed: int, report: Callable[[int], None]) -> dict[str, Any]:
    random = Random(seed)
    statuses: Counter[str] = Counter()
    families: Counter[str] = Counter()
    bad: list[dict[str, str]] = []
    secrets = {
        "traceback": b"Traceback",
        "home": str(plant.home).encode(),
        "passwords": b"root:x:",
        "source": b"site-packages",
        "another key": plant.manages.encode(),
        "inference key": plant.asks.encode(),
        "SQL": b"sqlalchemy",
        "template": b"49</",
        "split header": b"\r\nSet-Cookie: x=1",
    }
    for number in range(count):
        family, request = asked(random, server, plant)
        reply = exchange(server.port, request)
        status = reply[9:12].decode("latin-1") if reply.startswith(b"HTTP/") else "closed" if not reply else "silence"
        statuses[status] += 1
        families[family] += 1
        told = leaks(reply, secrets)
        if status.startswith("5") or told or server.process.poll() is not None:
            bad.append({"request": repr(request[:400]), "reply": repr(reply[:400]), "leaks": ", ".join(told)})
        if number % 1000 == 999:
            report(number + 1)
    return {
        "requests": count,
        "families": len(families),
        "statuses": dict(sorted(statuses.items())),
        "bad": bad[:20],
        "five_hundreds": sum(value for key, value in statuses.items() if key.startswith("5")),
        "leaks": sum(bool(one["leaks"]) for one in bad),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default=EMBEDDED)
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from tiny import tiny_world

    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        place = Path(name)
        generator = tiny_world(place)
        options = engine_options(args.engine, place / "base")
        plant = Plant(place, generator, 3, Path(options[-1]) if options else None)
        server = Server(generator, place / "serve.log", options)
        server.start()
        process, before = server.process.pid, files_outside(plant.home, place)
        began = time.monotonic()
        try:
            found = attack(plant, server, args.requests, args.seed, lambda done: print(done, flush=True))
            asked_again = httpx.post(
                f"{server.url}/v1/chat/completions",
                headers={"Authorization": f"Bearer {plant.asks}"},
                json={"model": "job1", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10},
                timeout=60,
            )
            still = asked_again.json()["choices"][0]["message"]["content"]
            alive = server.process.poll() is None and server.process.pid == process
            megabytes = server.megabytes()
        finally:
            server.end()
        log = (place / "serve.log").read_text(encoding="utf-8", errors="replace")
        result = {
            "command": command(),
            "engine": {"kind": args.engine, **engine_version(args.engine)},
            **found,
            "seed": args.seed,
            "seconds": round(time.monotonic() - began, 1),
            "same_process_alive": alive,
            "answers_as_before": still in plant.expected[plant.registry.current("job1").version.name, "hello"],
            "files_written_outside_home": sorted(str(one) for one in files_outside(plant.home, place) - before),
            "audit_lines": plant.registry.verify_audit(),
            "verified_versions": plant.registry.verify(),
            "tracebacks_in_the_log": log.count("Traceback"),
            "keys_in_the_log": log.count(plant.manages) + log.count(plant.asks),
            "megabytes": round(megabytes, 1),
            "hardware": hardware(),
            "versions_of": versions(),
        }
        if log.count("Traceback"):
            print(log[log.index("Traceback") :][:3000])
    write_json(args.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
