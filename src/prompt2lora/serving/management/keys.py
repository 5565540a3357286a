"""Keys: who may send requests, and who may manage. A token is shown once, when its key is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from prompt2lora.custody.access import GOVERN, Key
from prompt2lora.serving.guard import Authenticator
from prompt2lora.serving.management.names import Body
from prompt2lora.serving.service import Service


class NewKey(Body):
    name: Annotated[str, Field(min_length=1, max_length=80)]
    role: Literal["viewer", "operator", "approver", "admin"] | None = None
    inference: bool = False


def add_routes(made: APIRouter, service: Service, gate: Authenticator) -> None:
    governor = Depends(gate.managing(GOVERN))

    @made.get("/keys")
    def keys(key: Key = governor) -> dict[str, Any]:
        """All keys, without their tokens."""
        return {"keys": [one._asdict() for one in service.access.all()]}

    @made.post("/keys", status_code=201)
    def add_key(new: NewKey, key: Key = governor) -> dict[str, Any]:
        """A new key; its token is shown now and never again."""
        made_key, token = service.as_actor(key.name).access.add(new.name, role=new.role, infer=new.inference)
        return {**made_key._asdict(), "token": token}

    @made.delete("/keys/{name}")
    def revoke(name: Annotated[str, Path(max_length=80)], key: Key = governor) -> dict[str, Any]:
        """Revoke a key."""
        service.as_actor(key.name).access.revoke(name)
        return {"revoked": name}
