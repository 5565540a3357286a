"""Deciding: a second person approves or refuses a version, and anybody entitled returns a job to the base.

In: forms that say which release their reader saw. Out: releases, and lines of the record; the rules are those of
`custody/decisions.py`. A form sent twice decides once; a form that was overtaken by somebody else's decision is a
Conflict.
"""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.i18n import Told
from prompt2lora.console.jobs import job_page, opened
from prompt2lora.console.views import checks, inspection, standing
from prompt2lora.console.visits import Page, Visit
from prompt2lora.custody import decisions
from prompt2lora.custody.access import GOVERN, LOOK, RELEASE, RETURN
from prompt2lora.errors import Conflict

_LONGEST_REASON = 500


def show_decision(visit: Visit) -> Response:
    found, version = opened(visit)
    kept = visit.service.plant.registry
    judged, refusal = kept.judgement(version), kept.refusal(version)
    against = decisions.objections(kept, version, visit.service.plant.policy)
    return job_page(
        visit,
        "decision",
        found,
        version,
        verdict=judged.verdict.result if judged else None,
        checks=checks(judged),
        against=[one.kind for one in against],
        may_override=visit.may(GOVERN) and bool(against) and all(one.overridable for one in against),
        may_withdraw=refusal is not None
        and visit.key is not None
        and (refusal.actor == visit.name or visit.may(GOVERN)),
        inspected=inspection(kept.measured(version)),
        refusal=refusal,
        own=version.actor == visit.name,
        report=judged is not None,
    )


def decide(visit: Visit) -> Response:
    found, version = opened(visit)
    reason, decision = _reason(visit), visit.typed("decision")
    if decision == "refuse":
        decisions.refuse(visit.plant.registry, version, reason, second=True)
        return visit.go(f"/jobs/{visit.job}/decision", version=version.name, done="refused")
    if decision == "withdraw":
        decisions.withdraw(visit.plant.registry, version, reason, admin=visit.may(GOVERN), second=True)
        return visit.go(f"/jobs/{visit.job}/decision", version=version.name, done="withdrawn")
    if found.answering and found.answering.id == version.id:
        return visit.go(f"/jobs/{visit.job}/watch", done="approved")
    _unchanged(visit, found.release.id if found.release else None)
    override = reason if decision == "override" else None
    visit.plant.promote(visit.job, version.name, reason, second=True, override=override, admin=visit.may(GOVERN))
    return visit.go(f"/jobs/{visit.job}/watch", done="approved")


def show_return(visit: Visit) -> Response:
    found, version = opened(visit)
    return job_page(visit, "return", found, version)


def give_back(visit: Visit) -> Response:
    """The base answers again; that holds whatever was measured, watched or decided before."""
    found = standing(visit.service, visit.job)
    if found.answering is not None:
        expected = found.release.id if found.release else None
        _unchanged(visit, expected)
        reason = _reason(visit, visit.words.say("return.reason"))
        visit.plant.registry.promote(visit.job, None, reason, expected=expected)
    return visit.go(f"/jobs/{visit.job}/watch", done="returned")


def _unchanged(visit: Visit, current: int | None) -> None:
    if visit.typed("seen") != str(current or ""):
        raise Conflict(f"the job {visit.job} got another release meanwhile; look at it and decide again")


def _reason(visit: Visit, default: str = "") -> str:
    reason = " ".join(visit.typed("reason", default).split())
    if not reason:
        raise Told("no_reason")
    if len(reason) > _LONGEST_REASON:
        raise Told("long_reason", most=_LONGEST_REASON)
    return reason


PAGES = (
    Page("GET", "/jobs/{job}/decision", show_decision, (LOOK,)),
    Page("POST", "/jobs/{job}/decision", decide, (RELEASE,), show_decision),
    Page("GET", "/jobs/{job}/return", show_return, (RETURN,)),
    Page("POST", "/jobs/{job}/return", give_back, (RETURN,), show_return),
)
