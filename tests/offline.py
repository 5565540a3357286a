"""Inside a network namespace that has nothing but its loopback: serve, ask once, end; prints what came as JSON."""

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


def until_ready(serving, address, seconds=90):
    """Wait until a service answers that it is ready, or has ended."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and serving.poll() is None:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)


def main(program, generator):
    added = subprocess.run([program, "keys", "add", "line", "--inference", "--json"], capture_output=True, check=True)
    headers = {"Authorization": f"Bearer {json.loads(added.stdout)['token']}"}
    serving = subprocess.Popen(
        [program, "serve", "--port", "8000", "--generator", generator],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    client = httpx.Client(base_url="http://127.0.0.1:8000", headers=headers, timeout=60)
    until_ready(serving, "http://127.0.0.1:8000")
    asked = {"model": "mail", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    reply = client.post("/v1/chat/completions", json=asked)
    serving.send_signal(signal.SIGTERM)
    serving.communicate(timeout=60)
    print(json.dumps({"outside": reachable(), "status": reply.status_code, "ended": serving.returncode}))


if __name__ == "__main__":
    main(*sys.argv[1:])
