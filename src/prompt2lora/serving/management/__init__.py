"""What the command line does, over HTTP: jobs, versions, releases, monitoring, queued jobs, audit log, keys.

In: requests with a management key. Out: JSON; long work is queued and looked up by its id. Everything is done in the
name of the key, so that the audit log says who it was. Names of jobs and versions are looked up in the
registry; no part of a request becomes a path.
"""

from __future__ import annotations

from fastapi import APIRouter

from prompt2lora.serving.guard import Authenticator
from prompt2lora.serving.management import audit, jobs, keys, queued, watches
from prompt2lora.serving.refusals import ERRORS
from prompt2lora.serving.service import Service

_PARTS = (jobs, queued, watches, audit, keys)


def router(service: Service, gate: Authenticator) -> APIRouter:
    made = APIRouter(prefix="/admin", tags=["management"], responses=ERRORS)
    for part in _PARTS:
        part.add_routes(made, service, gate)
    return made
