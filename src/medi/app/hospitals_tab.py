"""Two tabs: one real patch dragged across the levels of an attribute, and a level that training never saw."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from medi.app import pictures
from medi.app.controls import control, default_conditions, level_at, model_label, place
from medi.app.handlers import LONG, PLAIN, QUIET, ending, followed, go_and_stop
from medi.app.jobs import Jobs, Tell
from medi.app.making import FRAMES, NewLevel, Translation, learn, own_patch, read_images, translate
from medi.app.pictures import escape
from medi.app.samples_tab import SamplesTab
from medi.app.workbench import Shown, Workbench
from medi.core.errors import MediError

SHOWN = 16


class PatchTab:
    """A patch of the run, or one's own, from its level to another one."""

    def __init__(self, bench: Workbench, jobs: Jobs) -> None:
        self.bench, self.jobs = bench, jobs
        self.attribute = bench.first.schema.attribute(bench.crossed)
        self.start = default_conditions(bench)
        with gr.Row(elem_classes="workspace"):
            with gr.Column(scale=1, min_width=260, elem_classes="controls"):
                self._controls()
            with gr.Column(scale=4, min_width=320):
                self.status = gr.HTML(
                    pictures.status("Take a patch: its tissue stays, only the rest changes."), **PLAIN
                )
                self.frames: Any = gr.State([])
                self.slider = gr.Slider(
                    0,
                    100,
                    0,
                    step=100 / (FRAMES - 1),
                    label="From its own level to the other, %",
                    visible=False,
                    elem_id="share-across",
                    buttons=[],
                )
                self.view = gr.HTML(elem_id="translation", **PLAIN)
                self.stops = gr.HTML(elem_id="stops", **PLAIN)
        self._wire()

    def _controls(self) -> None:
        bench, first = self.bench, self.bench.first
        classes, seen = first.schema.classes, bench.counts.sum().sort_values(ascending=False)
        own, other = (str(level) for level in seen.index[[0, -1]])
        self.class_ = control(first, classes, self.start["class"], "patch-class")
        levels = [(level, i) for i, level in enumerate(self.attribute.levels)]
        name = self.attribute.name
        self.own = gr.Dropdown(levels, value=place(self.attribute, own), label=f"{name} of the patch", filterable=False)
        self.target = gr.Dropdown(
            levels, value=place(self.attribute, other), label=f"{name} to translate it to", filterable=False
        )
        self.file = gr.File(label="Your own patch (optional)", type="filepath", elem_id="own-patch", height=120)
        self.turn = gr.State(0)
        self.go, self.stop = go_and_stop("Take a patch", "translate")

    def _wire(self) -> None:
        inputs = [self.class_, self.own, self.target, self.file, self.turn]
        outputs = [self.status, self.frames, self.slider, self.view, self.stops, self.turn]
        self.go.click(self.translate, inputs, outputs, **LONG)
        self.slider.input(self.show, [self.slider, self.frames], self.view, queue=False, **QUIET)
        self.stop.click(ending(self.jobs), None, None, queue=False, **QUIET)

    def translate(
        self, request: gr.Request, class_: Any, own: Any, target: Any, file: str | None, turn: int
    ) -> Iterator[list[Any]]:
        """Translate a patch of the run, another one each time, or the user's own."""
        level = self.attribute.levels[int(target)]
        found: list[Shown] = []

        def work(tell: Tell) -> None:
            found.append(self._patch(class_, own, file, turn))
            translate(self.bench.first, found[0], self.attribute.name, level, tell)

        for told in followed(work, self.jobs, request):
            if isinstance(told, str):
                yield [told, *[gr.skip()] * 5]
            else:
                yield [*self._arrived(told, found[0]), turn + 1]

    def show(self, share: float, frames: list[str]) -> str:
        return frames[round(share / 100 * (len(frames) - 1))] if frames else ""

    def _patch(self, class_: Any, own: Any, file: str | None, turn: int) -> Shown:
        schema = self.bench.first.schema
        conditions = {"class": level_at(schema.classes, class_), self.attribute.name: self.attribute.levels[int(own)]}
        if file:
            return own_patch(Path(file), self.bench.first, conditions)
        found = self.bench.real(conditions, SHOWN, seed=turn)
        if found is None:
            raise MediError("no real patch of this combination is in the run folder; choose another, or drop your own")
        return Shown(found.images[:1], found.table.iloc[:1], found.what, found.conditions)

    def _arrived(self, found: Translation, patch: Shown) -> list[Any]:
        frames = [self._frame(found, i) for i in range(len(found.frames))]
        line = f"One of the {patch.what}, <strong>{pictures.name(patch.conditions)}</strong>: move the slider."
        captions = [f"{escape(level)} (its own)" if level == found.own else escape(level) for level in found.stops]
        note = f"<h3>The same patch at every {escape(self.attribute.name)}</h3>"
        slider = gr.update(value=100, visible=True, label=f"From {found.own} to {found.target}, %")
        return [
            pictures.status(line),
            frames,
            slider,
            frames[-1],
            note + pictures.strip(list(found.stops.values()), captions),
        ]

    def _frame(self, found: Translation, i: int) -> str:
        share = found.shares[i]
        caption = f"{escape(found.own)} {1 - share:.0%}, {escape(found.target)} {share:.0%}"
        return pictures.strip([found.patch, found.frames[i]], ["the patch as it is", caption]).replace(
            'class="strip"', 'class="pair"', 1
        )


class LevelTab:
    """A few patches of a new level, and samples in its style."""

    def __init__(self, bench: Workbench, jobs: Jobs, samples: SamplesTab) -> None:
        self.bench, self.jobs, self.samples = bench, jobs, samples
        self.attribute = bench.first.schema.attribute(bench.crossed)
        self.others = [a for a in bench.first.schema.conditions if a.name != self.attribute.name]
        with gr.Row(elem_classes="workspace"):
            with gr.Column(scale=1, min_width=260, elem_classes="controls"):
                self._controls()
            with gr.Column(scale=4, min_width=320):
                size = bench.first.size
                self.status = gr.HTML(
                    pictures.status(
                        f"Drop five or more patches of {size} × {size} px from a {escape(self.attribute.name)} that "
                        "training never saw. About a minute later you see what it would look like in every class."
                    ),
                    **PLAIN,
                )
                self.given = gr.HTML(elem_id="given", **PLAIN)
                self.made = gr.HTML(elem_id="learned", **PLAIN)
        self._wire()

    def _controls(self) -> None:
        name = self.attribute.name
        self.file = gr.File(
            label="Patches", file_count="multiple", file_types=["image"], type="filepath", elem_id="patches", height=140
        )
        self.name = gr.Textbox(f"new {name}", label=f"Name of the {name}", elem_id="level-name")
        start = default_conditions(self.bench)
        self.fields = [control(self.bench.first, a, start[a.name], f"new-{i}") for i, a in enumerate(self.others)]
        self.go, self.stop = go_and_stop("Learn it", "learn")

    def _wire(self) -> None:
        inputs = [self.file, self.name, *self.fields]
        outputs = [self.status, self.made, self.samples.model]
        self.file.upload(self.preview, self.file, self.given, **QUIET)
        self.file.clear(lambda: "", None, self.given, **QUIET)
        self.go.click(self.learn, inputs, outputs, **LONG)
        self.stop.click(ending(self.jobs), None, None, queue=False, **QUIET)

    def preview(self, files: list[str]) -> str:
        try:
            images = read_images(list(map(Path, files)), self.bench.first, {}).images[:]
        except MediError as error:
            return pictures.alarm(error)
        more = f"{len(images)} patches" + (f", {SHOWN} of them shown" if len(images) > SHOWN else "")
        return f"<h3>{more}</h3>" + pictures.strip(list(images[:SHOWN]), ["" for _ in images[:SHOWN]])

    def learn(self, request: gr.Request, files: list[str] | None, name: str, *fields: Any) -> Iterator[list[Any]]:
        """Learn the level and show samples of it; the other tab can then sample more."""
        model, steps = self.bench.first, self.bench.settings.sampling.steps
        known = {a.name: level_at(a, value) for a, value in zip(self.others, fields)}

        def work(tell: Tell) -> None:
            patches = read_images([Path(file) for file in files or []], model, known)
            learn(self.bench, model, patches, self.attribute.name, name.strip(), 0, steps, tell)

        for told in followed(work, self.jobs, request):
            yield [told, gr.skip(), gr.skip()] if isinstance(told, str) else self._learned(told)

    def _learned(self, found: NewLevel) -> list[Any]:
        line = (
            f"<strong>{escape(found.level)}</strong> learned in {found.seconds:.0f} s ({escape(found.method)}). The "
            f"model <strong>{escape(found.model.name)}</strong> can now be chosen in the first tab; it goes when the "
            "app ends."
        )
        panels = [
            f"<h3>{escape(class_)}</h3>" + pictures.strip(list(images), ["" for _ in images])
            for class_, images in found.samples.items()
        ]
        named = [(model_label(model), name) for name, model in self.bench.models.items()]
        return [pictures.status(line), "".join(panels), gr.update(choices=named)]
