"""Persons: the first one, signing in and out, keys and invitations.

In: keys that are pasted, codes from links. Out: a cookie that holds the key, and keys that are shown once.
"""

from __future__ import annotations

import hmac
import json
from urllib.parse import urlsplit

from fastapi.responses import Response

from prompt2lora.console.i18n import Told
from prompt2lora.console.visits import KEY_COOKIE, ROOT, Gone, Invitation, Page, Visit
from prompt2lora.custody.access import GOVERN, ROLES, Access
from prompt2lora.errors import Conflict

_DAYS = 3
_YEAR = 365 * 24 * 3600


def show_sign_in(visit: Visit) -> Response:
    return visit.page(
        "sign_in.html", after=visit.typed("after"), kept=visit.typed("kept"), files=bool(visit.typed("files"))
    )


def sign_in(visit: Visit) -> Response:
    """With a key that is somebody's, on to where one was going; what was typed there before is offered again."""
    token = "".join(visit.typed("key").split())
    key = visit.service.access.find(token)
    if key is None or key.role is None:
        raise Told("wrong_key" if key is None else "key_for_programs")
    after, kept = _own_path(visit.typed("after")), _kept(visit.typed("kept"))
    visit.key = key
    response = visit.page("resume.html", after=after, kept=kept) if kept else visit.go(after.removeprefix(ROOT))
    return _signed_in(visit, response, token)


def _own_path(after: str) -> str:
    """A path of the console; everything else leads to the overview, so that no link signs one in to elsewhere."""
    parts = urlsplit(after)
    inside = parts.path == ROOT or parts.path.startswith(f"{ROOT}/")
    own = not parts.scheme and not parts.netloc and inside and after.isprintable() and "\\" not in after
    return after if own and not parts.path.startswith(f"{ROOT}/sign") else ROOT


def _kept(text: str) -> dict[str, str]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return (
        {str(name): value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
    )


def _signed_in(visit: Visit, response: Response, token: str) -> Response:
    secure = visit.request.url.scheme == "https"
    response.set_cookie(KEY_COOKIE, token, max_age=_YEAR, path="/", secure=secure, httponly=True, samesite="strict")
    return response


def sign_out(visit: Visit) -> Response:
    response = visit.go("/sign-in", done="signed_out")
    response.delete_cookie(KEY_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def show_first(visit: Visit) -> Response:
    _first_code(visit)
    return visit.page("first.html", code=visit.typed("code"), name=visit.typed("name"))


def first(visit: Visit) -> Response:
    """The first person becomes admin; the code is worth nothing after that."""
    _first_code(visit)
    name = visit.typed("name").strip()
    key, token = Access(visit.service.plant.as_actor(name or "first start").registry).add(name, role="admin")
    visit.service.first_code = None
    visit.key = key
    return _signed_in(visit, visit.page("key.html", made=key, token=token, own=True), token)


def _first_code(visit: Visit) -> None:
    right = visit.service.first_code
    if right is None or not hmac.compare_digest(right.encode(), visit.typed("code").encode()):
        raise Gone("first_code")


def show_invitation(visit: Visit) -> Response:
    return visit.page("invitation.html", code=visit.typed("code"), invitation=_invitation(visit))


def accept(visit: Visit) -> Response:
    """The invited person gets a key, made in the name of who invited."""
    invitation = _invitation(visit)
    access = Access(visit.service.plant.as_actor(invitation.by).registry)
    visit.desk.invitations.pop(visit.typed("code"), None)
    visit.key, token = access.add(invitation.name, role=invitation.role, infer=invitation.infer)
    return _signed_in(visit, visit.page("key.html", made=visit.key, token=token, own=True), token)


def _invitation(visit: Visit) -> Invitation:
    """Raises Gone for one that was used, is too old, or whose giver may not invite any more."""
    found = visit.desk.invitations.get(visit.typed("code"))
    keys = visit.service.access.all() if found else []
    holds = any(found and key.name == found.by and key.may(GOVERN) and not key.revoked for key in keys)
    if found is None or not holds or found.until < visit.desk.until(0):
        raise Gone("invitation")
    return found


def show_keys(visit: Visit, link: str = "", invited: str = "") -> Response:
    keys = sorted(visit.service.access.all(), key=lambda key: (key.revoked is not None, key.at))
    return visit.page("keys.html", keys=keys, roles=list(ROLES), link=link, invited=invited, days=_DAYS)


def add_key(visit: Visit) -> Response:
    """A key at once, or (for a person) a link by which that person makes it."""
    name, role, infer = visit.typed("name").strip(), visit.typed("role") or None, bool(visit.typed("infer"))
    if visit.typed("how") == "link":
        if role is None:
            raise Told("invite_role")
        if any(key.name == name for key in visit.service.access.all()):
            raise Conflict(f"there is or was a key named {name!r}; choose another name")
        visit.plant.tell("invite", name, {"role": role, "infer": infer})
        code = visit.desk.invite(Invitation(name, role, infer, visit.name, visit.desk.until(_DAYS)))
        base = str(visit.request.base_url).rstrip("/")
        visit.form.values.clear()
        return show_keys(visit, f"{base}{ROOT}/invitation?code={code}", name)
    made, token = Access(visit.plant.registry).add(name, role=role, infer=infer)
    return visit.page("key.html", made=made, token=token, own=False)


def revoke(visit: Visit) -> Response:
    Access(visit.plant.registry).revoke(visit.typed("revoked"))
    return visit.go("/keys", done="revoked")


PAGES = (
    Page("GET", "/sign-in", show_sign_in, ()),
    Page("POST", "/sign-in", sign_in, (), show_sign_in),
    Page("POST", "/sign-out", sign_out, ()),
    Page("GET", "/first", show_first, ()),
    Page("POST", "/first", first, (), show_first),
    Page("GET", "/invitation", show_invitation, ()),
    Page("POST", "/invitation", accept, (), show_invitation),
    Page("GET", "/keys", show_keys, (GOVERN,)),
    Page("POST", "/keys", add_key, (GOVERN,), show_keys),
    Page("POST", "/keys/revoke", revoke, (GOVERN,), show_keys),
)
