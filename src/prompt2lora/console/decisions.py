"""Deciding: a second person approves or refuses a version, and anybody entitled returns a job to the base.

In: forms that say which release their reader saw. Out: releases, and lines of the record; the rules are those of
`custody/decisions.py`. A form sent twice decides once; a form that was overtaken by somebody else's decision is a
Conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import Response

from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.job_pages import job_page, opened
from prompt2lora.console.page_request import Page, PageRequest
from prompt2lora.console.views import checks, end_of_use, inspection, objections
from prompt2lora.custody import decisions
from prompt2lora.custody.access import GOVERN, LOOK, RELEASE, RETURN
from prompt2lora.custody.releases import MAX_REASON


def show_decision(request: PageRequest) -> Response:
    found, version = opened(request)
    kept = request.service.plant.registry
    judged, refusal = kept.judgement(version), kept.refusal(version)
    origin, measured = kept.origin(version), kept.measured(version)
    against = objections(kept, version, found.policy, found.policy_fault)
    return job_page(
        request,
        "decision",
        found,
        version,
        verdict=judged.verdict.result if judged else None,
        checks=checks(judged),
        against=[one.kind for one in against],
        may_override=request.may(GOVERN)
        and bool(against)
        and all(one.overridable for one in against)
        and not found.policy_fault,
        may_withdraw=refusal is not None
        and request.key is not None
        and (refusal.actor == request.actor or request.may(GOVERN)),
        inspected=inspection(measured, version.comparison),
        refusal=refusal,
        ended=end_of_use(found, version),
        own=version.actor == request.actor,
        report=judged is not None,
        opening=origin.instruction,
        generated=origin.generated,
        bare=_with_and_without(measured.scores),
    )


def _with_and_without(scores: Mapping[str, Any]) -> tuple[float, float] | None:
    """Shares of right answers with the instruction and without it, if both were measured."""
    return (scores["generated"]["score"], scores["bare"]["score"]) if {"generated", "bare"} <= scores.keys() else None


def decide(request: PageRequest) -> Response:
    _, version = opened(request)
    reason, decision = _reason(request), request.value("decision")
    if decision == "refuse":
        decisions.refuse(request.plant.registry, version, reason, second=True)
        return request.redirect(f"/jobs/{request.job}/decision", version=version.name, done="refused")
    if decision == "withdraw":
        decisions.withdraw(request.plant.registry, version, reason, admin=request.may(GOVERN), second=True)
        return request.redirect(f"/jobs/{request.job}/decision", version=version.name, done="withdrawn")
    request.plant.promote(
        request.job,
        version.name,
        reason,
        seen=request.seen,
        second=True,
        override=reason if decision == "override" else None,
        admin=request.may(GOVERN),
    )
    return request.redirect(f"/jobs/{request.job}/watch", done="approved")


def show_return(request: PageRequest) -> Response:
    found, version = opened(request)
    bare = found.release and request.service.instruction_in_weights(found.release)
    return job_page(request, "return", found, version, bare=bare)


def give_back(request: PageRequest) -> Response:
    """The base answers again; that holds whatever was measured, watched or decided before, and by which policy."""
    current = request.service.plant.registry.current(request.job)
    if current and current.version:
        reason = _reason(request, request.translator.say("return.reason"))
        request.plant.promote(request.job, "base", reason, seen=request.seen)
    return request.redirect(f"/jobs/{request.job}/watch", done="returned")


def _reason(request: PageRequest, default: str = "") -> str:
    reason = " ".join(request.value("reason", default).split())
    if not reason:
        raise TranslatableError("no_reason")
    if len(reason) > MAX_REASON:
        raise TranslatableError("long_reason", most=MAX_REASON)
    return reason


PAGES = (
    Page("GET", "/jobs/{job}/decision", show_decision, (LOOK,)),
    Page("POST", "/jobs/{job}/decision", decide, (RELEASE,), show_decision),
    Page("GET", "/jobs/{job}/return", show_return, (RETURN,)),
    Page("POST", "/jobs/{job}/return", give_back, (RETURN,), show_return),
)
