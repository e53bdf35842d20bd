"""Settings, time, versions, seeds and licences: what it takes to run this again, and under which terms."""

from typing import Any

from medi.figures.names import known
from medi.report.parts import Section, facts
from medi.report.run import Run

TITLES = {"settings": "Settings of the study", "versions": "Versions", "machine": "Machine", "encoder": "Descriptor"}
PHANTOM = "procedural patches that medi draws itself, under medi's own licence (Apache-2.0)"
UNSTATED = "not stated in results.json: look it up before you pass images on"


def settings(run: Run) -> Section:
    section = ("settings", "How can this be run again?")
    if not run.results:
        return Section(*section, ["The study is not finished: settings, times and versions follow with results.json."])
    seconds = run.results.get("seconds", {})
    keys = ("seed", "seeds", "phantom", "format_version")
    identity = {key: run.results[key] for key in keys if _stated(run.results.get(key))}
    blocks = [facts("Seed and hashes", identity)]
    if seconds:
        total = sum(value for value in seconds.values() if known(value))
        blocks.append(facts("Seconds per stage", {**seconds, "together": total}))
    blocks.append(facts("Licences", licences(run.results)))
    blocks += [
        facts(title, run.results[key], key != "settings") for key, title in TITLES.items() if run.results.get(key)
    ]
    return Section(*section, blocks=blocks)


def _stated(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or known(value)


def licences(results: dict[str, Any]) -> dict[str, str]:
    """The terms of data and encoder, as results.json names them; what is not named is said to be so."""
    named = dict(results.get("licences", {}))
    encoder = results.get("encoder", {})
    data = PHANTOM if results.get("phantom") else UNSTATED
    name = f"encoder {encoder['name']}" if encoder.get("name") else "encoder"
    return {"data": data, name: str(encoder.get("licence") or named.pop("encoder", UNSTATED)), **named}
