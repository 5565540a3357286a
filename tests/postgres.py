"""A throwaway PostgreSQL server for tests: Debian's binaries in a folder of their own, reachable by a socket only."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLACES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql")


def binaries() -> Path | None:
    """The newest folder that holds both initdb and pg_ctl, if there is somebody here who may run them."""
    if os.geteuid() == 0 and not _has_user("postgres"):
        return None
    found = [file.parent for place in _PLACES for file in Path(place).glob("**/bin/initdb")]
    on_path = shutil.which("initdb")
    found += [Path(on_path).resolve().parent] if on_path else []
    return max((folder for folder in found if (folder / "pg_ctl").exists()), default=None, key=str)


def _has_user(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a server that runs while the context lasts. It refuses to run as root: then as Debian's user does."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    place = Path(tempfile.mkdtemp(prefix="p2l-pg-", dir="/tmp"))  # a socket's path has at most 107 characters
    if user:
        shutil.chown(place, "postgres")

    def run(program: str, *words: str) -> None:
        command = [*user, str(folder / program), "-D", str(place / "data"), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", text=True)

    try:
        run("initdb", "--username=plant", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        settings = f"-k {place} -c listen_addresses= -c fsync=off -c max_connections=200"
        run("pg_ctl", "start", "-w", "-l", str(place / "log"), "-o", settings)
        try:
            yield f"postgresql+psycopg://plant@/postgres?host={place}"
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate")
    finally:
        shutil.rmtree(place, ignore_errors=True)
