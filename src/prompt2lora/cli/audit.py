"""The record of every change: checked, and written to a file. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prompt2lora.cli.app import PLANT, Json, app, print_json

audit_app = typer.Typer(help="The log of every change.")
app.add_typer(audit_app, name="audit", rich_help_panel=PLANT)


@audit_app.command("verify")
def verify_audit(as_json: Json = False) -> None:
    """Check that no line of the audit log was altered, removed or moved."""
    from prompt2lora.custody.records import sealed_record
    from prompt2lora.plant.plant import Plant

    found = sealed_record(Plant.open().registry)
    if as_json:
        print_json(found)
    else:
        print(f"{found['lines']} lines, all unchanged" if found["sound"] else f"BAD  {found['fault']}")
    if not found["sound"]:
        raise typer.Exit(1)


@audit_app.command("export")
def export_audit(out: Annotated[Path, typer.Option(help="File to write (JSONL).")], as_json: Json = False) -> None:
    """Write the audit log to a file, one line a change, with the public key that signs its end."""
    import json
    from dataclasses import asdict

    from prompt2lora.ground.files import check_new, write_text
    from prompt2lora.plant.plant import Plant

    check_new(out, "output file")
    registry = Plant.open().registry
    lines = [json.dumps(asdict(line), ensure_ascii=False) for line in registry.audit_lines()]
    write_text(out, "".join(f"{line}\n" for line in lines))
    if as_json:
        print_json({"lines": len(lines), "public_key": registry.store.signer.public})
    else:
        print(f"{out}: {len(lines)} lines; public key {registry.store.signer.public}")
