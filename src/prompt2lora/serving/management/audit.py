"""What an auditor looks at: the audit log, whether log, files and bases are as they were, the engine's statistics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from prompt2lora.custody.access import LOOK
from prompt2lora.custody.records import sealed_record
from prompt2lora.serving.guard import Authenticator
from prompt2lora.serving.service import Service


def add_routes(made: APIRouter, service: Service, gate: Authenticator) -> None:
    registry, looking = service.plant.registry, Depends(gate.managing(LOOK))

    @made.get("/audit", dependencies=[looking])
    def audit(
        after: Annotated[int, Query(ge=0, lt=2**31)] = 0, most: Annotated[int, Query(ge=1, le=1000)] = 200
    ) -> dict[str, Any]:
        """Lines of the audit log after a number."""
        lines = [asdict(line) for line in registry.audit_page(after, most)]
        return {"lines": lines, "public_key": registry.store.signer.public}

    @made.post("/audit/verify", dependencies=[looking])
    def verify_audit() -> dict[str, Any]:
        """Check that no line was altered, removed or moved."""
        return {**sealed_record(registry)}

    @made.post("/verify", dependencies=[looking])
    def verify() -> dict[str, Any]:
        """Check the files of all versions, and their pictures, against what was signed, and their bases."""
        return service.plant.verify()._asdict()

    @made.get("/stats", dependencies=[looking])
    def stats() -> dict[str, Any]:
        """Statistics of the engine."""
        return {"base": service.engine.base, "engine": service.engine.stats()}
