"""People: the first one, signing in and out, keys and invitations.

In: keys that are pasted, codes from links. Out: a cookie that holds the key, and keys that are shown once.
"""

from __future__ import annotations

import hmac
import json
from urllib.parse import urlsplit

from fastapi.responses import Response

from prompt2lora.console.context import ROOT, Invitation
from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.page_request import KEY_COOKIE, NotFound, Page, PageRequest
from prompt2lora.custody.access import GOVERN, ROLES, Access, key_name_of
from prompt2lora.errors import Conflict
from prompt2lora.ground.comparison import composed

_DAYS = 3
_YEAR = 365 * 24 * 3600
_LABELS = {  # of the fields that a person fills in: what a page calls them
    "job": "new.job",
    "display_name": "name.label",
    "instruction": "new.instruction",
    "prompts": "new.prompts_title",
    "examples": "examples.paste",
    "comparison": "compare.label",
    "inspection": "inspection.paste",
    "answers": "new.answers",
    "answers_detail": "new.answers_detail",
    "text": "try.field",
    "column": "sheet.column",
    "bound": "sheet.bound",
    "decision": "tab.decision",
    "reason": "decide.reason",
    "canary": "watch.promise_canary",
    "correction": "watch.promise_correction",
    "checked": "watch.checked",
    "corrected": "watch.corrected",
    "name": "keys.name",
    "role": "keys.role",
    "revoked": "keys.revoke",
}
_CHOICES = {"comparison": "compare.", "answers": "new.answers_", "decision": "decide.", "role": "role."}


def show_sign_in(request: PageRequest) -> Response:
    return request.render(
        "sign_in.html", after=request.value("after"), kept=request.value("kept"), files=bool(request.value("files"))
    )


def sign_in(request: PageRequest) -> Response:
    """With a key that is somebody's, on to where one was going; what was typed there before is offered again."""
    token = "".join(request.value("key").split())
    key = request.service.access.find(token)
    if key is None or key.role is None:
        raise TranslatableError("wrong_key" if key is None else "key_for_programs")
    after, kept = _own_path(request.value("after")), _kept(request.value("kept"))
    request.key = key
    if kept:
        response: Response = request.render("resume.html", after=after, kept=kept, typed=_typed(request, kept))
    else:
        response = request.redirect(after.removeprefix(ROOT))
    return _signed_in(request, response, token)


def _typed(request: PageRequest, kept: dict[str, str]) -> list[tuple[str, str]]:
    """What somebody typed or chose, in the words of the page that it was typed into."""
    say, known = request.translator.say, request.translator.has
    chosen = {name: f"{_CHOICES.get(name, '')}{value}" for name, value in kept.items()}
    return [
        (say(label), say(chosen[name]) if name in _CHOICES and known(chosen[name]) else kept[name])
        for name, label in _LABELS.items()
        if kept.get(name)
    ]


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


def _signed_in(request: PageRequest, response: Response, token: str) -> Response:
    secure = request.http.url.scheme == "https"
    response.set_cookie(KEY_COOKIE, token, max_age=_YEAR, path="/", secure=secure, httponly=True, samesite="strict")
    return response


def sign_out(request: PageRequest) -> Response:
    response = request.redirect("/sign-in", done="signed_out")
    response.delete_cookie(KEY_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def show_first(request: PageRequest) -> Response:
    _first_code(request)
    return request.render("first.html", code=request.value("code"), name=request.value("name"))


def first(request: PageRequest) -> Response:
    """The first person becomes admin; the code is worth nothing after that."""
    _first_code(request)
    name = composed(request.value("name").strip())
    key, token = Access(request.service.plant.as_actor(name or "first start").registry).add(name, role="admin")
    request.service.first_code = None
    request.key = key
    return _signed_in(request, request.render("key.html", made=key, token=token, own=True), token)


def _first_code(request: PageRequest) -> None:
    right = request.service.first_code
    known = right is not None and hmac.compare_digest(right.encode(), request.value("code").encode())
    if not known or request.service.access.has_admin():
        raise NotFound("first_code")


def show_invitation(request: PageRequest) -> Response:
    return request.render("invitation.html", code=request.value("code"), invitation=_invitation(request))


def accept(request: PageRequest) -> Response:
    """The invited person gets a key, made in the name of who invited."""
    invitation = _invitation(request)
    access = Access(request.service.plant.as_actor(invitation.by).registry)
    request.key, token = access.add(invitation.name, role=invitation.role, infer=invitation.infer)
    request.context.invitations.pop(request.value("code"), None)
    return _signed_in(request, request.render("key.html", made=request.key, token=token, own=True), token)


def _invitation(request: PageRequest) -> Invitation:
    """Raises NotFound for one that was used, is too old, or whose giver may not invite any more."""
    found = request.context.invitations.get(request.value("code"))
    keys = request.service.access.all() if found else []
    holds = any(found and key.name == found.by and key.may(GOVERN) and not key.revoked for key in keys)
    if found is None or not holds or found.until < request.context.until(0):
        raise NotFound("invitation")
    return found


def show_keys(request: PageRequest, link: str = "", invited: str = "") -> Response:
    keys = sorted(request.service.access.all(), key=lambda key: (key.revoked is not None, key.at))
    return request.render("keys.html", keys=keys, roles=list(ROLES), link=link, invited=invited, days=_DAYS)


def add_key(request: PageRequest) -> Response:
    """A key at once, or (for a person) a link by which that person makes it."""
    name, role, infer = request.value("name").strip(), request.value("role") or None, bool(request.value("infer"))
    if request.value("how") == "link":
        if role is None:
            raise TranslatableError("invite_role")
        name = key_name_of(name)
        if any(key.name == name for key in request.service.access.all()):
            raise Conflict(f"there is or was a key named {name!r}; choose another name")
        request.plant.registry.record("invite", name, {"role": role, "infer": infer})
        code = request.context.invite(Invitation(name, role, infer, request.actor, request.context.until(_DAYS)))
        base = str(request.http.base_url).rstrip("/")
        request.form.values.clear()
        return show_keys(request, f"{base}{ROOT}/invitation?code={code}", name)
    made, token = Access(request.plant.registry).add(name, role=role, infer=infer)
    return request.render("key.html", made=made, token=token, own=False)


def revoke(request: PageRequest) -> Response:
    Access(request.plant.registry).revoke(request.value("revoked"))
    return request.redirect("/keys", done="revoked")


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
