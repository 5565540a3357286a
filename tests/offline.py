"""Serve, ask once, end; prints what came as JSON. It may run where there is no network but the loopback."""

import json
import signal
import socket
import subprocess
import sys
import time

import httpx


def reachable():
    try:
        socket.create_connection(("192.0.2.1", 80), 2).close()
    except OSError:
        return False
    return True


def until_ready(serving, address, seconds=200):
    """Wait until a service answers that it is ready, or has ended."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and serving.poll() is None:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)


def main(program, port, generator, token):
    address = f"http://127.0.0.1:{port}"
    words = [program, "serve", "--port", port, "--generator", generator]
    serving = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until_ready(serving, address)
        asked = {"model": "mail", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        key = {"Authorization": f"Bearer {token}"}
        reply = httpx.post(f"{address}/v1/chat/completions", json=asked, headers=key, timeout=60).json()
        page = httpx.get(f"{address}/console", follow_redirects=True)
    finally:
        serving.send_signal(signal.SIGTERM)
        out, log = serving.communicate(timeout=60)
    found = {
        "outside": reachable(),
        "by": reply["system_fingerprint"],
        "answer": reply["choices"][0]["message"]["content"],
        "page": [page.status_code, page.text],
        "ended": serving.returncode,
        "out": out,
        "log": log,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
