"""Settings, time, versions, seeds and licences: what it takes to run this again, and under which terms."""

from medi.core.claims import rules
from medi.figures.names import known
from medi.report.parts import Section, facts
from medi.report.run import Results, Run

PHANTOM = "procedural patches that medi draws itself, under medi's own licence (Apache-2.0)"
UNSTATED = "not stated in results.json: look it up before you pass images on"


def settings(run: Run) -> Section:
    section, results = ("settings", "How can this be run again?"), run.results
    if not results.finished:
        return Section(*section, ["The study is not finished: settings, times and versions follow with results.json."])
    blocks = [facts("Seed and hashes", _identity(results))]
    if results.seconds:
        total = sum(value for value in results.seconds.values() if known(value))
        blocks.append(facts("Seconds per stage", {**results.seconds, "together": total}))
    blocks.append(facts("Licences", licences(results)))
    blocks.append(facts("When something is claimed", rules()))
    listed = {"Versions": results.versions, "Machine": results.machine, "Encoder": results.encoder}
    blocks += [facts(title, content) for title, content in listed.items() if content]
    if results.settings:
        blocks.append(facts("Settings of the study", results.settings, open=False))
    return Section(*section, blocks=blocks)


def _identity(results: Results) -> dict[str, object]:
    stated: dict[str, object] = {"seed": results.seed, "seeds": results.seeds, "phantom": results.phantom}
    return {name: value for name, value in stated.items() if value not in (None, "", (), [])} | {
        "format_version": results.format_version
    }


def licences(results: Results) -> dict[str, str]:
    """The terms of data and encoder, as results.json names them; what is not named is said to be so."""
    named, encoder = dict(results.licences), results.encoder
    data = PHANTOM if results.phantom else UNSTATED
    name = f"encoder {encoder['name']}" if encoder.get("name") else "encoder"
    return {"data": data, name: str(encoder.get("licence") or named.pop("encoder", UNSTATED)), **named}
