"""Telling people of an alarm: a line of `alarms.jsonl` below the home, and a webhook if one is set."""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from http.client import HTTPException

from prompt2lora.custody.monitor import Alarm
from prompt2lora.ground.home import home

_log = logging.getLogger(__name__)


def notify(alarm: Alarm) -> None:
    """Tell people. The release is back already, and a full disk or a deaf webhook must not undo that."""
    line = {"job": alarm.job, "source": alarm.source, "reason": alarm.reason, "at": alarm.release.at}
    text = json.dumps(line, ensure_ascii=False)
    for tell in (_write, _call):
        try:
            tell(text)
        except (OSError, ValueError, HTTPException) as error:
            _log.error("the alarm of %s (%s) could not be told everywhere: %s", alarm.job, alarm.reason, error)


def _write(text: str) -> None:
    with (home() / "alarms.jsonl").open("a", encoding="utf-8") as log:
        log.write(text + "\n")


def _call(text: str) -> None:
    url = os.environ.get("PROMPT2LORA_WEBHOOK")
    if url:
        request = urllib.request.Request(url, text.encode(), {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).close()
