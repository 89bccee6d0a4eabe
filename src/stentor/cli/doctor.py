"""stentor doctor: what this machine has, and what will be slow here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stentor.cli.output import JsonFlag, answer, talk

if TYPE_CHECKING:
    from stentor.doctor import Finding

_COLOURS = {"ok": typer.colors.GREEN, "slow": typer.colors.YELLOW, "missing": typer.colors.RED}


def doctor(json_output: JsonFlag = False) -> None:
    """Say what this machine has, what is missing, and what will be slow here.

    Example: stentor doctor
    """
    from stentor.doctor import examine

    talk("looking at this machine ...")
    findings = examine()
    value = {"findings": [finding.to_dict() for finding in findings]}
    answer(_as_text(findings), value, as_json=json_output)


def _as_text(findings: list[Finding]) -> str:
    """Lay out what was found by topic, and the advice below."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for topic in dict.fromkeys(finding.topic for finding in findings):
        lines += ["", typer.style(topic, bold=True)]
        for finding in findings:
            if finding.topic == topic:
                mark = typer.style(f"{finding.state:<7}", fg=_COLOURS[finding.state])
                lines.append(f"  {mark}  {finding.name:<{width}}  {finding.value}")
    for state, heading in (("slow", "what will be slow here"), ("missing", "what is missing here")):
        advised = [finding for finding in findings if finding.state == state]
        if advised:
            lines += ["", typer.style(heading, bold=True)]
            lines += [f"  {finding.name}: {finding.advice}" for finding in advised]
    return "\n".join(lines[1:])
