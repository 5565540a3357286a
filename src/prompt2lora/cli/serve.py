"""The service's commands: serve, keys. Thin, like all of the command line."""

from __future__ import annotations

import errno
import logging
import secrets
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prompt2lora.cli.app import SERVE, GeneratorOption, JobsBase, Json, Working, app, print_json
from prompt2lora.errors import UsageError
from prompt2lora.serving.sizes import ADAPTER_CACHE_SIZE, MAX_BATCH_SIZE, PREFIX_CACHE_MB

if TYPE_CHECKING:
    from prompt2lora.custody.access import Access
    from prompt2lora.plant.plant import Plant
    from prompt2lora.serving.setup import Setup

keys_app = typer.Typer(help="Who may send requests, and who may manage.")
app.add_typer(keys_app, name="keys", rich_help_panel=SERVE)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EVERYWHERE = ("0.0.0.0", "::")


@app.command(rich_help_panel=SERVE)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A host name by which clients may call this service.")
    ] = None,
    max_batch_size: Annotated[
        int | None, typer.Option(min=1, max=256, help=f"Requests answered at once; default: {MAX_BATCH_SIZE}.")
    ] = None,
    adapter_cache_size: Annotated[
        int | None, typer.Option(min=1, help=f"Most adapters in memory; default: {ADAPTER_CACHE_SIZE}.")
    ] = None,
    prefix_cache_mb: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Memory for what the requests of a job begin with, read once; 0: none; default: {PREFIX_CACHE_MB}.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute in float32: an answer never depends on the other requests; slower.")
    ] = False,
    per_job: Annotated[int, typer.Option(min=1, help="At most so many requests for one job at once.")] = 32,
    per_minute: Annotated[int, typer.Option(min=1, help="At most so many requests of one key a minute.")] = 600,
    request_mb: Annotated[
        int, typer.Option(min=1, max=64, help="At most so many MB in a request, with its files and pictures.")
    ] = 2,
    replay_hours: Annotated[
        float, typer.Option(min=0, help="Hours between replays of monitored jobs' known examples; 0: never.")
    ] = 24.0,
    engine: Annotated[str, typer.Option(help="What answers in this process: embedded, or llama.cpp.")] = "embedded",
    gguf: Annotated[
        Path | None, typer.Option(help="The base as a GGUF file; default: the one that came with a package.")
    ] = None,
    engine_url: Annotated[
        list[str] | None,
        typer.Option("--engine-url", help="A vLLM server that answers instead; may be given several times."),
    ] = None,
    ray_replicas: Annotated[int, typer.Option(min=0, help="Number of replicas that answer on a Ray cluster.")] = 0,
    generator: GeneratorOption = None,
    base: JobsBase = None,
) -> None:
    """Answer every job of the registry over HTTP (OpenAI's API), with the console for people."""
    from prompt2lora.plant.plant import Plant
    from prompt2lora.serving.job_queue import JobQueue
    from prompt2lora.serving.service import Limits, Service
    from prompt2lora.serving.setup import elsewhere
    from prompt2lora.serving.starting import EngineOptions, start

    options = EngineOptions(
        engine, gguf, engine_url or (), ray_replicas, max_batch_size, adapter_cache_size, exact, prefix_cache_mb
    )
    plant = Plant.open(generator, base).settled()
    limits = Limits(body=request_mb * 2**20, per_job=per_job, per_minute=per_minute)
    _ = plant.policy  # a broken one is told now
    _check_port(host, port)
    if host not in _LOOPBACK and not any(key.revoked is None for key in _access(plant).all()):
        raise UsageError(
            f"{host} can be reached by others and there is no key yet; start once on 127.0.0.1 and make one"
        )
    with Working("loading"):
        setup = _setup(plant)
        answering = start(options, setup, plant.registry)
    for version in elsewhere(plant.registry, setup):
        print(f"{version.job} is not answered here: it belongs to the base {version.base}", file=sys.stderr)
    queue = JobQueue(plant.registry.clock, base=setup.base_digest or setup.base)
    service = Service(plant, answering, queue, limits, replay_hours=replay_hours, setup=setup)
    address = f"http://{_called(host, allow_host or [])}:{port}"
    if not service.access.has_admin():
        service.first_code = secrets.token_urlsafe(24)
        print(f"First start. Open this link once to make the admin's key:\n  {address}/console/first?code=", end="")
        print(service.first_code)
    print(f"Console {address}/console  Tools {address}/v1  (Ctrl+C ends)", flush=True)
    _run(service, host, port, allow_host or [])


def _called(host: str, allowed: list[str]) -> str:
    """A name by which this service answers: one that listens on all addresses is called by none of them."""
    if host in _EVERYWHERE:
        loopback = "[::1]" if host == "::" else "127.0.0.1"
        return next((name for name in allowed if name != "*"), loopback)
    return f"[{host}]" if ":" in host else host


def _check_port(host: str, port: int) -> None:
    """Raises UsageError for a port that another program holds or that this user may not open, before a base is read."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise UsageError(
            f"--host must be an address or a name of this machine, not {host[:80]!r}; 127.0.0.1 is"
        ) from error
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
                tried.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise _taken(host, port) from error


def _taken(host: str, port: int) -> UsageError:
    return UsageError(f"{host}:{port} cannot be listened on; choose another --port")


def _setup(plant: Plant) -> Setup:
    """What an engine has to hold."""
    from prompt2lora.serving.setup import needed

    evaluator = plant.evaluator()
    return needed(plant.registry, evaluator.layout, evaluator.base_stamp[1])


def _run(service: Any, host: str, port: int, hosts: list[str]) -> None:
    """Serve until a signal comes. An embedded engine works in the main thread, where it is twice as fast."""
    import uvicorn

    from prompt2lora.serving.embedded import EmbeddedEngine
    from prompt2lora.web import create_app

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    names = [] if host in (*_LOOPBACK, *_EVERYWHERE) else [host]
    config = uvicorn.Config(
        create_app(service, hosts=[*hosts, *names]),
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=30,
    )
    server = uvicorn.Server(config)
    engine = service.engine
    if not isinstance(engine, EmbeddedEngine):
        server.run()
        return

    def http() -> None:
        try:
            server.run()
        finally:
            engine.stop()

    def end(*_: Any) -> None:
        server.should_exit = True

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, end)
    thread = threading.Thread(target=http, name="http")
    thread.start()
    try:
        engine.run()
    finally:
        server.should_exit = True
        thread.join()
    if not server.started:
        raise _taken(host, port)


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="A person or a program; appears in the audit log.")],
    role: Annotated[str | None, typer.Option(help="viewer, operator, approver or admin.")] = None,
    inference: Annotated[bool, typer.Option("--inference", help="The key may send requests to jobs.")] = False,
    as_json: Json = False,
) -> None:
    """Make a key; its token is shown only once."""
    from prompt2lora.plant.plant import Plant

    key, token = _access(Plant.open()).add(name, role=role, infer=inference)
    if as_json:
        print_json({**key._asdict(), "token": token})
    else:
        print(f"{key.name}: {token}\nKeep it now; it is not shown again.")


@keys_app.command("list")
def list_keys(as_json: Json = False) -> None:
    """All keys, without their tokens."""
    from prompt2lora.plant.plant import Plant

    found = _access(Plant.open()).all()
    if as_json:
        print_json({"keys": [key._asdict() for key in found]})
    else:
        for key in found:
            does = ", ".join([*([key.role] if key.role else []), *(["inference"] if key.infer else [])])
            print(f"{key.name:<30} {does:<24} {f'revoked {key.revoked}' if key.revoked else 'in use'}")


@keys_app.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="The key's name.")], as_json: Json = False) -> None:
    """Revoke a key."""
    from prompt2lora.plant.plant import Plant

    _access(Plant.open()).revoke(name)
    if as_json:
        print_json({"revoked": name})
    else:
        print(f"{name} is revoked")


def _access(plant: Plant) -> Access:
    from prompt2lora.custody.access import Access

    return Access(plant.registry)
