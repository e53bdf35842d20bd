"""The first tab: the map of combinations, a choice, and samples of it beside real and nearest training patches."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from medi.app import pictures
from medi.app.controls import (
    NO_MIX,
    choices,
    control,
    default_conditions,
    level_at,
    marks,
    model_label,
    place,
    restricted,
)
from medi.app.handlers import LONG, PLAIN, QUIET, ending, followed, go_and_stop
from medi.app.jobs import Jobs
from medi.app.making import BATCH, Made, Wish, sample
from medi.app.pictures import escape
from medi.app.workbench import Model, Shown, Workbench
from medi.sampling.solvers import SOLVERS

CLICK = """element.addEventListener('click', (event) => {
  const chosen = event.target.closest('button[data-place]');
  if (chosen) trigger('pick', {place: chosen.dataset.place});
});"""
SOLVER_NAMES = {
    "dpm_solver_2m": "DPM-Solver++ (2M)",
    "ipndm": "iPNDM",
    "ddim": "DDIM",
    "ddim_clipped": "DDIM, clipped",
    "heun": "Heun, twice the work",
}


class SamplesTab:
    """Builds the tab within open Blocks; `values` are the inputs of every handler, in the order of `read`."""

    def __init__(self, bench: Workbench, jobs: Jobs) -> None:
        self.bench, self.jobs, self.schema = bench, jobs, bench.first.schema
        self.start = default_conditions(bench)
        self._map()
        with gr.Row(elem_classes="workspace"):
            with gr.Column(scale=1, min_width=260, elem_classes="controls"):
                self._controls()
            with gr.Column(scale=4, min_width=320):
                self._outputs()
        self._wire()

    # --- layout -------------------------------------------------------------------------------------------------------

    def _map(self) -> None:
        self.map = gr.HTML(self._map_html(self.start), js_on_load=CLICK, elem_id="map", **PLAIN)

    def _controls(self) -> None:
        bench, first = self.bench, self.bench.first
        self.model = gr.Dropdown(self._models(), value=first.name, label="Model", elem_id="model", filterable=False)
        marked = marks(bench, first, self.start["class"])
        self.fields = {
            a.name: control(first, a, self.start[a.name], f"choose-{i}", marked.get(a.name, []))
            for i, a in enumerate(self.schema.conditions)
        }
        self.other = gr.Dropdown(
            self._others(first), value=NO_MIX, label=f"Mix with {bench.crossed}", elem_id="mix", filterable=False
        )
        self.share = gr.Slider(0, 100, 50, step=5, label="Share of it, %", visible=False, elem_id="share", buttons=[])
        self.go, self.stop = go_and_stop("Generate", "generate")
        with gr.Accordion("Seed and sampler", open=False):
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
            named = [(SOLVER_NAMES.get(name, name), name) for name in SOLVERS]
            sampling = bench.settings.sampling
            self.solver = gr.Dropdown(named, value=sampling.solver, label="Sampler", filterable=False, elem_id="solver")
            self.steps = gr.Slider(1, 100, sampling.steps, step=1, label="Steps", elem_id="steps", buttons=[])
            self._guidance(first)

    def _guidance(self, first: Model) -> None:
        self.weights = {
            a.name: gr.Slider(0, 4, 0, step=0.1, label=f"Guidance towards {a.name}", visible=first.guidable, buttons=[])
            for a in self.schema.conditions
        }
        self.unguided = gr.HTML(
            '<p class="note">No guidance: this model was trained without conditioning dropout.</p>',
            visible=not first.guidable,
            **PLAIN,
        )

    def _outputs(self) -> None:
        conditions, first = self.start, self.bench.first
        self.status = gr.HTML(self._status(first, conditions), elem_id="status", **PLAIN)
        with gr.Row(elem_classes="panels"):
            self.generated = gr.HTML(self._stored(first, conditions), elem_id="generated", **PLAIN)
            beside = {"visible": self.bench.has_patches} | PLAIN
            self.real = gr.HTML(self._real([conditions]), elem_id="real", **beside)
            self.nearest = gr.HTML(_no_nearest(), elem_id="nearest", **beside)

    # --- events -------------------------------------------------------------------------------------------------------

    def _wire(self) -> None:
        self.values = [self.model, *self.fields.values(), self.other, self.share, self.seed, self.solver, self.steps]
        self.values += list(self.weights.values())
        shown = [self.map, *self.fields.values(), self.other, self.share, *self.weights.values(), self.unguided]
        shown += [self.status, self.generated, self.nearest, self.real]
        chosen = (self.choose, self.values, shown)
        for listed in (self.model, *self.fields.values(), self.other):
            listed.input(*chosen, **QUIET)
        self.share.input(*chosen, trigger_mode="always_last", **QUIET)  # by keyboard there is no release
        ends = [self.fields["class"], self.fields[self.bench.crossed]]
        self.map.pick(self.pick, None, ends, **QUIET).then(*chosen, **QUIET)
        outputs = [self.status, self.generated, self.nearest]
        self.go.click(self.generate, self.values, outputs, **LONG)
        self.stop.click(ending(self.jobs), None, None, queue=False, **QUIET)

    def pick(self, event: gr.EventData) -> tuple[int, int]:
        """A combination of the map: the places of its class and of its level."""
        row, _, column = str(event._data["place"]).partition(",")
        return int(row), int(column)

    def choose(self, *values: Any) -> list[Any]:
        """Everything that follows from a choice, without any sampling."""
        wish = self.read(values)
        model, conditions = self.bench.model(wish.model), wish.conditions
        full = self.start | conditions
        fields = [self._field(model, name, conditions) for name in self.fields]
        mixable = self.bench.crossed in conditions
        mixing = [gr.update(choices=self._others(model), visible=mixable), gr.update(visible=wish.mix is not None)]
        weights = [gr.update(visible=model.guidable and name in conditions) for name in self.weights]
        notes = gr.update(visible=not model.guidable)
        generated = self._stored(model, conditions) if wish.mix is None else _waiting()
        panels = [self._status(model, conditions, wish), generated, _no_nearest(), self._real(wish.combinations())]
        return [self._map_html(full), *fields, *mixing, *weights, notes, *panels]

    def generate(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        """Images as they come; ends between two steps where the page says stop."""
        wish, started = self.read(values), time.perf_counter()
        for told in followed(partial(sample, self.bench, wish), self.jobs, request):
            if isinstance(told, str):
                yield [told, gr.skip(), gr.skip()]
                continue
            took = f"{len(told.images)} new images in {time.perf_counter() - started:.1f} s"
            line = f"{self._marked(self.bench.model(wish.model), wish.combinations())} · {took}"
            yield [pictures.status(line) if told.done else gr.skip(), *self._made(wish, told)]

    def read(self, values: Any) -> Wish:
        """The wish that the controls express."""
        name, *rest = values
        model, at = self.bench.model(name), len(self.fields)
        fields, (other, share, seed, solver, steps, *weights) = rest[:at], rest[at:]
        full = {key: level_at(self._attribute(model, key), value) for key, value in zip(self.fields, fields)}
        conditions = restricted(model, full)
        mix = None
        if self.bench.crossed in conditions and other is not None and int(other) >= 0:
            mix = (
                self.bench.crossed,
                model.schema.attribute(self.bench.crossed).levels[int(other)],
                float(share) / 100,
            )
        guidance = {key: float(w) for key, w in zip(self.weights, weights) if key in conditions and model.guidable}
        return Wish(name, conditions, mix, int(seed or 0), solver, int(steps), guidance)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _attribute(self, model: Model, name: str) -> Any:
        known = {a.name: a for a in model.schema.conditions}
        return known.get(name) or self.schema.attribute(name)

    def _models(self) -> list[tuple[str, str]]:
        return [(model_label(model), name) for name, model in self.bench.models.items()]

    def _others(self, model: Model) -> list[tuple[str, int]]:
        found = {a.name: a for a in model.schema.conditions}.get(self.bench.crossed)
        levels = found.levels if found else ()
        return [("nothing", NO_MIX), *((level, i) for i, level in enumerate(levels))]

    def _field(self, model: Model, name: str, conditions: dict[str, str]) -> Any:
        if name not in conditions:
            return gr.update(visible=False)
        attribute = model.schema.attribute(name)
        if attribute.kind == "continuous":
            return gr.update(visible=True)
        marked = marks(self.bench, model, conditions["class"]).get(name, [])
        return gr.update(
            choices=choices(model, attribute, marked), value=place(attribute, conditions[name]), visible=True
        )

    def _map_html(self, conditions: dict[str, str]) -> str:
        crossed = self.bench.crossed
        caption = (
            f"Training patches per class and {escape(crossed)}. <strong>Pick a combination</strong>: the "
            "model has trained on blue ones, the stronger the more. It has never seen hollow ones"
        )
        return pictures.counts_map(self.bench.counts, (conditions["class"], conditions[crossed]), caption)

    def _status(self, model: Model, conditions: dict[str, str], wish: Wish | None = None) -> str:
        return pictures.status(self._marked(model, [conditions] if wish is None else wish.combinations()))

    def _marked(self, model: Model, combinations: list[dict[str, str]]) -> str:
        """Combinations, each with the number of its training patches."""
        parts = []
        for one in combinations:
            levels = {key: level for key, level in one.items() if self._attribute(model, key).kind == "categorical"}
            parts.append(f"<strong>{pictures.name(levels)}</strong> {_badge(self.bench.trained(model, levels))}")
        return " mixed with ".join(parts)

    def _stored(self, model: Model, conditions: dict[str, str]) -> str:
        wanted = {key: conditions[key] for key in ("class", self.bench.crossed) if key in conditions}
        found = self.bench.made(model, wanted, BATCH)
        return _waiting() if found is None else _grid("Generated", found, "made by the study; Generate makes new ones")

    def _real(self, combinations: list[dict[str, str]]) -> str:
        known = [a.name for a in self.schema.conditions if a.kind == "categorical"]
        each = BATCH // len(combinations)
        found = [self.bench.real({k: v for k, v in one.items() if k in known}, each) for one in combinations]
        there = [shown for shown in found if shown is not None]
        if not there:
            return pictures.empty("Real", "no real patch of this combination is in the run folder", BATCH)
        images = [image for shown in there for image in shown.images]
        alts = [f"real, {pictures.name(shown.conditions)}" for shown in there for _ in shown.images]
        named = {
            what: [pictures.name(s.conditions) for s in there if s.what == what] for what in {s.what for s in there}
        }
        note = "; ".join(f"{what}: {' and '.join(dict.fromkeys(names))}" for what, names in sorted(named.items()))
        return pictures.grid("Real", note, images, alts, BATCH)

    def _made(self, wish: Wish, made: Made) -> list[Any]:
        title = _title(wish)
        alts = [f"generated {i + 1}, {title}" for i in range(len(made.images))]
        note = f"{escape(wish.model)}, seed {wish.seed}, {wish.steps} steps"
        generated = pictures.grid("Generated", note, list(made.images), alts, BATCH)
        found = made.nearest
        if found is None:
            return [generated, gr.skip()]
        near = [
            f"nearest to {i + 1}: {pictures.name({'class': row['class'], 'level': row[self.bench.crossed]})}, distance "
            f"{distance:.1f}"
            for i, (distance, row) in enumerate(zip(found.distances, found.table.to_dict("records")))
        ]
        note = (
            f"In the same order; the median distance is {_median(found.distances):.1f}. At 1, an image is as far from "
            "its nearest training patch as two training patches of different slides. Copies lie far below 1."
        )
        return [generated, pictures.grid("Nearest training patches", note, list(found.images), near, BATCH)]


def _median(values: Any) -> float:
    return float(sorted(values)[len(values) // 2])


def _badge(n: int | None) -> str:
    if n is None:
        return ""
    if n:
        return f'<span class="badge seen">{n:,} training patches</span>'
    return '<span class="badge unseen">never seen in training</span>'


def _title(wish: Wish) -> str:
    return " mixed with ".join(pictures.name(one) for one in wish.combinations())


def _grid(title: str, found: Shown, note: str) -> str:
    alts = [f"{title.lower()}, {pictures.name(found.conditions)}"] * len(found.images)
    return pictures.grid(title, note, list(found.images), alts, BATCH)


def _waiting() -> str:
    return pictures.empty("Generated", "press Generate", BATCH)


def _no_nearest() -> str:
    return pictures.empty("Nearest training patches", "come with new images", BATCH)
