"""A study from cohort to report, stage after stage: reading `run` from top to bottom is reading the method.

Each stage is a function of the settings and of what earlier stages wrote; `runs.Run` skips what is done.
"""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Bool

from medi import __version__
from medi.cohort import phantom
from medi.cohort.audit import audit
from medi.cohort.holdout import Holdout, Rule, design
from medi.cohort.plan import balance, with_siblings
from medi.cohort.table import Cohort, concatenate, slides_in_turn
from medi.core.files import read_table, safe_name, write_json, write_table, write_text
from medi.core.processes import Call, side_by_side
from medi.core.progress import Advance, Show, Silent, Tally
from medi.core.tables import CONFUSION, CONTROL, CURVES, FIDELITY, MEMORISATION, RESULTS, SUSPECTS, UTILITY
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.classify.stained import stain_arms
from medi.evaluation.control import control
from medi.evaluation.encoders import Encoder, embed, encoder, learned
from medi.evaluation.features import Embedded
from medi.evaluation.fidelity import compare as fidelity
from medi.evaluation.memorisation import Patches, memorisation
from medi.models.cost import flop, gflop_per_image
from medi.models.denoiser import Denoiser
from medi.report.page import build
from medi.report.sheets import write_sheets
from medi.sampling.generate import generate
from medi.sampling.sampler import draw
from medi.sampling.transfer import TransferSettings, filling, transfer
from medi.study.settings import StudySettings, read_study
from medi.study.sources import Source, source_of
from medi.study.stages import Run
from medi.training.loop import EARLY, train

FORMAT_VERSION = 1
SETTINGS = "study.yaml"  # in the run folder
LEARNED = "encoders/learned.safetensors"
MODELS = ("cls", "medi")  # class alone (the baseline), class and metadata
TRANSFER, CARRIED = "transfer", "transferred"  # arm and set of transferred training patches, and their stage
SIBLINGS = 12  # images of a combination that share their noise with the other levels of the attribute
LIBRARIES = ("torch", "diffusers", "numpy", "scikit-learn")


def run(settings: StudySettings, out: Path, show: Show | None = None, redo: bool = False) -> dict[str, Any]:
    """The whole study in folder `out`; returns the content of results.json. The same call goes on after a kill."""
    study = Study(settings, Run(out, show or Silent(), redo))
    study.check()
    study.collect()  # the biased cohort
    study.audit()  # which combinations are missing, what gives the class away
    study.hold_out()  # take a part of the combinations away
    study.refer()  # real patches beside it: test set, floor, oracle
    study.train()  # CLS: p(image | class), MeDi: p(image | class, metadata)
    study.plan()  # fill every combination to the same count
    study.sample()
    study.carry()  # training patches at the levels that the plan fills, an arm where one is asked for
    study.learn()  # an encoder of the training patches' own, where one is asked for
    study.embed()
    study.measure_fidelity()  # distances per combination and per class
    study.measure_control()  # does an image show the class and the level that were asked for?
    study.measure_memorisation()  # is an image new, or a training patch again?
    study.measure_utility()  # classifiers on real, real + CLS, real + MeDi, oracle, and on what is free
    return study.conclude()  # results.json, picture sheet, report.html


def rehearse(settings: StudySettings) -> list[str]:
    """What `run` would do, a line per stage, without writing anything: the cohort is read, held out and planned."""
    source, s = source_of(settings), settings
    source.check()
    cohort = source.read()
    found = design(cohort.table, cohort.schema, _rule(s), s.seed)
    table = found.apply(cohort.table)
    plan = balance(table, cohort.schema, ("class", s.attribute), to=s.plan.to, minimum=s.plan.minimum)
    denoiser = Denoiser(s.network, cohort.schema)
    steps = s.sampling.evaluations
    gflop, size = gflop_per_image(denoiser), s.cohort.size
    trained, sampled = 3 * gflop * s.training.images, gflop * steps * len(plan)
    return [
        f"cohort: {len(cohort):,} patches of {table['patient'].nunique():,} patients, "
        f"{len(cohort) * size**2 * 3 / 1e9:,.1f} GB at {size} px",
        "audit: " + "; ".join(audit(cohort.table, cohort.schema).summary()),
        f"holdout: {len(found.held_out)} combinations; " + ", ".join(f"{k} {n:,}" for k, n in _sizes(table).items()),
        f"models: {' and '.join(MODELS)}, {sum(p.numel() for p in denoiser.parameters()) / 1e6:,.1f} M parameters, "
        f"{s.training.images:,} images of {flop(3 * gflop)} each: {flop(trained)} a model",
        f"samples: {len(plan):,} images a model, {steps} evaluations each: {flop(sampled)} a model",
        f"embeddings: {', '.join(s.evaluation.encoders)}; {len(cohort) + len(MODELS) * len(plan):,} patches",
    ]


def _sizes(table: pd.DataFrame) -> dict[str, int]:
    """Patches of each split that has any."""
    return {str(split): int(n) for split, n in table["split"].value_counts().items()}


def _rule(s: StudySettings) -> Rule:
    over = (s.attribute,) if s.holdout.kind == "sites" else ("class", s.attribute)
    return Rule(over=over, **s.holdout.model_dump())


@dataclass(frozen=True)
class Study:
    """The stages; `folder` holds what they wrote."""

    settings: StudySettings
    stages: Run

    def check(self) -> None:
        """Refuse what cannot work before anything is written, and keep the settings where workers find them."""
        s = self.settings
        self.source.check()
        for name in s.evaluation.encoders:
            if name != learned.NAME:
                encoder(name)

        def work(path: Path) -> str:
            write_text(path, yaml.safe_dump(s.model_dump(mode="json"), sort_keys=False))
            return f"{s.title}, seed {s.seed}"

        self.stages.stage(SETTINGS, work, s)

    def collect(self) -> None:
        def work(path: Path) -> str:
            cohort = self.source.collect(path, self.stages.show)
            return f"{len(cohort):,} patches of {cohort.table['patient'].nunique():,} patients"

        self.stages.stage("cohort", work, self.source.key())

    def audit(self) -> None:
        def work(path: Path) -> str:
            cohort = Cohort.load(self.folder / "cohort")
            found = audit(cohort.table, cohort.schema)
            found.save(path)
            return "; ".join(found.summary())

        self.stages.stage("audit", work, reads=["cohort"])

    def hold_out(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            cohort = Cohort.load(self.folder / "cohort")
            found = design(cohort.table, cohort.schema, _rule(s), s.seed)
            found.save(path)
            patches = int((found.split == "train").sum())
            return f"{len(found.certificate['held_out'])} combinations held out, {patches:,} training patches left"

        self.stages.stage("holdout", work, [s.holdout, s.attribute, s.seed], ["cohort"])

    def refer(self) -> None:
        s, drawn = self.settings, self.source.drawn

        def work(path: Path) -> str:
            self._side_by_side("drawing", draw_reference, drawn)
            patches = sum(len(Cohort.load(path / name)) for name in drawn)
            return f"{patches:,} fresh patches of all combinations: {', '.join(drawn)}"

        if drawn:
            self.stages.stage("references", work, [s.evaluation, s.plan, s.cohort, s.seed], ["cohort"])

    def train(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            self._side_by_side("training", train_model, MODELS)
            return f"{' and '.join(MODELS)}, {s.training.images:,} images each"

        self.stages.stage("models", work, [s.network, s.training, s.seed], ["holdout"])

    def plan(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            cohort = self.split()
            plan = balance(cohort.table, cohort.schema, self.over, to=s.plan.to, minimum=s.plan.minimum)
            plan.save(path)
            rows = with_siblings(plan.expand(s.seed), s.attribute, SIBLINGS)
            write_table(path / "rows.parquet", rows)
            return f"{len(rows):,} images per model, {int(rows['fill'].sum()):,} of them fill combinations"

        self.stages.stage("plan", work, [s.plan, s.attribute, s.seed], ["holdout"])

    def sample(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            self._side_by_side("sampling", sample_model, MODELS)
            return f"{' and '.join(MODELS)}, {s.sampling.steps} steps an image"

        self.stages.stage("samples", work, [s.sampling, s.seed], ["plan", "models"])

    def carry(self) -> None:
        s = self.settings
        carrying = TransferSettings(steps=10, batch=s.sampling.batch)  # as near to the truth as 15

        def work(path: Path) -> str:
            patches, plan = self.split().where(split="train"), read_table(self.folder / "plan" / "rows.parquet")
            wanted = plan[plan["fill"].to_numpy(dtype=bool)]
            rows = filling(patches, patches.schema, s.attribute, wanted, s.seed)
            model = self.folder / "models" / "medi" / "model.safetensors"
            with self.stages.show.bars("transfer") as (advance,):
                transfer(model, patches, rows, path, carrying, advance)
            return f"{len(rows):,} training patches at another {s.attribute}, of {len(wanted):,} that the plan wants"

        if s.evaluation.transfer:
            self.stages.stage(CARRIED, work, [carrying, s.attribute, s.seed], ["plan", "models"])

    def learn(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            patches = self.split().where(split="train")
            with self.stages.show.bars("learning an encoder") as (advance,):
                task = learned.LearnSettings(images=s.evaluation.learned_images)
                learned.learn(patches, path, s.seed, task, advance)
            return f"from {len(patches):,} training patches"

        if learned.NAME in s.evaluation.encoders:
            self.stages.stage(LEARNED, work, [s.seed, s.evaluation.learned_images], ["holdout"])

    def embed(self) -> None:
        for name in self.settings.evaluation.encoders:
            self._embed(name)

    def _embed(self, name: str) -> None:
        extractor = self.encoder(name)

        def work(path: Path) -> str:
            sets = self._stores()
            total = sum(map(len, sets.values()))
            with self.stages.show.bars("embedding") as (advance,):
                tally = Tally(advance, total)
                for store, cohort in sets.items():
                    table = pd.DataFrame(embed(cohort, extractor, progress=tally.part())).add_prefix("f")
                    write_table(path / f"{store}.parquet", table)
            return f"{total:,} patches, {extractor.dimension} numbers each"

        reads = ["holdout", "samples", *(["references"] if self.source.drawn else [])]
        reads += [CARRIED] if self.settings.evaluation.transfer else []
        self.stages.stage(self._embeddings(name), work, [extractor.name, extractor.hash], reads)

    def measure_fidelity(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            table = pd.concat([self._fidelity(name) for name in s.evaluation.encoders], ignore_index=True)
            FIDELITY.write(path.parent, table)
            means = _pick(table, metric="frechet", scope="combination_mean", split="unseen")
            means = means[means["encoder"] == self.encoder().label]
            return "unseen combinations: " + ", ".join(f"{r.arm} {r.value:.1f}" for r in means.itertuples())

        reads = [self._embeddings(name) for name in s.evaluation.encoders]
        self.stages.stage("tables/fidelity.parquet", work, [s.evaluation, s.attribute, s.seed], reads)

    def _fidelity(self, encoder: str) -> pd.DataFrame:
        """Distances per combination and per class in the features of one encoder."""
        s, sets = self.settings, self._embedded(encoder)
        arms = {model: sets[model] for model in MODELS}
        return fidelity.distances(
            sets["reference"],
            sets["floor"],
            arms,
            over=self.over,
            training=sets["train"].table,
            n=s.evaluation.distance_images,
            seed=s.seed,
            encoder=self.encoder(encoder).label,
            held_out=self.unseen(),
        )

    def measure_control(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            sets = self._embedded()
            arms = {model: sets[model] for model in MODELS}
            named: dict[str, Any] = {"over": self.over, "seed": s.seed, "encoder": self.encoder().label}
            found = control(sets["train"], sets["reference"], arms, held_out=frozenset(self.unseen()), **named)
            CONFUSION.write(path.parent, found.confusion)
            CONTROL.write(path.parent, found.figures)
            seen = _pick(found.figures, metric="as_asked", scope="all", split="unseen", attribute=s.attribute)
            return f"{s.attribute} as asked: " + ", ".join(f"{r.arm} {r.value:.3f}" for r in seen.itertuples())

        self.stages.stage("tables/control.parquet", work, [s.attribute, s.seed], ["embeddings"])

    def measure_memorisation(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            parts = self._patches()
            synthetic = {model: parts[model] for model in MODELS}
            reserve = parts["reserve"] if len(parts["reserve"]) else None
            found = memorisation(parts["train"], synthetic, reserve, parts["reference"], over=self.over, seed=s.seed)
            SUSPECTS.write(path.parent, found.suspects)
            if found.sheet is not None:
                found.sheet.save(self.folder / "suspects")
            MEMORISATION.write(path.parent, found.figures)
            rates = _pick(found.figures, metric="copy_rate")
            return "copies: " + ", ".join(f"{r.arm} {r.value:.3f}" for r in rates.itertuples())

        self.stages.stage("tables/memorisation.parquet", work, [s.attribute, s.seed], ["embeddings"])

    def measure_utility(self) -> None:
        s = self.settings

        def work(path: Path) -> str:
            sets = self._embedded()
            real, fill = sets["train"], sets["medi"].table["fill"].to_numpy(dtype=bool)
            added = {model: sets[model].take(fill) for model in MODELS}
            if TRANSFER in sets:
                added[TRANSFER] = sets[TRANSFER]
            oracle = _like(sets["oracle"], added["medi"].table, self.over) if "oracle" in sets else None
            tests = {name: sets["reference"].take(rows) for name, rows in self._tests(sets["reference"].table).items()}
            with self.stages.show.bars("classifiers") as (advance,):
                table, curves = study_arms(
                    real,
                    added,
                    tests,
                    over=self.over,
                    seed=s.seed,
                    oracle=oracle,
                    stained=self._stained(real, list(tests)),
                    only=s.evaluation.arms,
                    progress=advance,
                )
            CURVES.write(path.parent, curves)
            UTILITY.write(path.parent, table)
            overall = _pick(table, metric="balanced_accuracy", scope="all", split="unseen")
            named = overall[overall["arm"].isin(["real", *MODELS, "oracle"])]
            return "unseen combinations: " + ", ".join(f"{r.arm} {r.value:.3f}" for r in named.itertuples())

        self.stages.stage("tables/utility.parquet", work, [s.evaluation, s.attribute, s.seed], ["embeddings"])

    def conclude(self) -> dict[str, Any]:
        """results.json, the sheet of pictures and report.html, always written anew from what the stages left."""
        self._sheet().save(self.folder / "sheet")
        sets = self._sets()
        write_sheets(sets["reference"], sets["medi"], self.settings.attribute, self.folder / "sheets")
        write_table(self.folder / "tables/training.parquet", self._training_logs())
        results = self._results()
        write_json(self.folder / "results.json", results)
        build(self.folder)
        return results

    @property
    def folder(self) -> Path:
        return self.stages.folder

    @property
    def source(self) -> Source:
        return source_of(self.settings)

    @property
    def over(self) -> tuple[str, str]:
        """The columns whose combinations are held out and filled."""
        return ("class", self.settings.attribute)

    def unseen(self) -> set[tuple[str, ...]]:
        """The combinations without a training patch: held out, or never there."""
        split = self.split()
        seen = set(_cells(split.where(split="train").table, self.over))
        levels = [split.schema.attribute(name).levels for name in self.over]
        return set(product(*levels)) - seen

    def split(self) -> Cohort:
        """The collected cohort with its split column."""
        cohort = Cohort.load(self.folder / "cohort")
        table = Holdout.load(self.folder / "holdout").apply(cohort.table)
        return Cohort(table, cohort.schema, cohort.pixels, cohort.info)

    def _side_by_side(self, title: str, worker: Callable[[str, str, Advance], None], names: Sequence[str]) -> None:
        """Call one of this module's workers for each name at once."""
        calls: dict[str, Call] = {f"{title} {name}": (worker, (str(self.folder), name)) for name in names}
        side_by_side(calls, self.stages.show)

    def _stores(self) -> dict[str, Cohort]:
        """All patches there are, real and synthetic: the cohort, the sets drawn beside it, the samples."""
        drawn = {name: Cohort.load(self.folder / "references" / name) for name in self.source.drawn}
        samples = {model: Cohort.load(self.folder / "samples" / model) for model in MODELS}
        if self.settings.evaluation.transfer:
            samples[TRANSFER] = Cohort.load(self.folder / CARRIED)
        return {"cohort": self.split(), **drawn, **samples}

    def _sets(self) -> dict[str, Cohort]:
        """The sets of patches that are measured: those of the source, and the samples of each model."""
        stores = self._stores()
        cohort = stores.pop("cohort")
        return {name: cohort.select(rows) for name, rows in self.source.sets(cohort.table).items()} | stores

    def encoder(self, name: str = "") -> Encoder:
        """An encoder by its name, by default the study's first; "learned" is the study's own."""
        chosen = name or self.settings.evaluation.encoders[0]
        return learned.load(self.folder / LEARNED) if chosen == learned.NAME else encoder(chosen)

    def _embeddings(self, name: str) -> str:
        """The stage and folder of an encoder's features: the first one's has the plain name."""
        return "embeddings" if name == self.settings.evaluation.encoders[0] else f"embeddings-{safe_name(name)}"

    def _embedded(self, encoder: str = "") -> dict[str, Embedded]:
        """Embeddings [n, d] and table of each set, in the features of the study's first encoder or of the named one."""
        stores = self._stores()
        folder = self.folder / self._embeddings(encoder or self.settings.evaluation.encoders[0])
        read = {name: read_table(folder / f"{name}.parquet") for name in stores}
        found = {name: Embedded(read[name].to_numpy(dtype=np.float64), cohort.table) for name, cohort in stores.items()}
        cohort = found.pop("cohort")
        return {name: cohort.take(rows) for name, rows in self.source.sets(cohort.table).items()} | found

    def _patches(self) -> dict[str, Patches]:
        """Pixels and features of each set."""
        embedded = self._embedded()
        return {name: Patches(cohort, embedded[name].features) for name, cohort in self._sets().items()}

    def _tests(self, table: pd.DataFrame) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which of the test rows are of combinations that training saw, and which not; the empty one is left out."""
        unseen = self.unseen()
        is_unseen = np.array([cell in unseen for cell in _cells(table, self.over)], dtype=bool)
        return {name: rows for name, rows in (("seen", ~is_unseen), ("unseen", is_unseen)) if rows.any()}

    def _stained(self, real: Embedded, splits: Sequence[str]) -> list[Arm]:
        """The stain arms that the study asks for, on its first encoder's features."""
        if not self.settings.evaluation.stains:
            return []
        sets = self._sets()
        masks = self._tests(sets["reference"].table)
        tests = {split: sets["reference"].select(masks[split]) for split in splits}
        seed, names = self.settings.seed, self.settings.evaluation.stains
        return stain_arms(sets["train"], real, tests, self.encoder(), seed, names)

    def _sheet(self, per_cell: int = 3) -> Cohort:
        """A few real and synthetic patches of every combination, of as many slides, with a column `source`."""
        sets = self._sets()
        sources = {"real": sets["reference"], "medi": sets["medi"], "cls": sets["cls"]}
        columns = ["sample_id", "patient", "slide", *self.over, "source"]
        parts = []
        for source, cohort in sources.items():
            order = slides_in_turn(cohort.table, self.over)
            first = cohort.table.iloc[order].groupby(list(self.over)).cumcount() < per_cell
            part = cohort.with_columns(source=source, sample_id=source + ":" + cohort.table["sample_id"])
            chosen = part.select(order[first.to_numpy()])
            schema = sets["reference"].schema.restrict([self.settings.attribute])
            parts.append(Cohort(chosen.table[columns], schema, chosen.pixels))
        return concatenate(parts)

    def _training_logs(self) -> pd.DataFrame:
        paths = {model: self.folder / "models" / model / "log.jsonl" for model in MODELS}
        return pd.concat([pd.read_json(path, lines=True).assign(model=model) for model, path in paths.items()])

    def _named(self, table: str, **wanted: str) -> dict[str, Any]:
        """Values by arm, and by split where there are any, of the rows of a result table that `wanted` names."""
        rows = _pick(RESULTS[table].read(self.folder / "tables"), **wanted)
        if "split" not in rows:
            return dict(zip(rows["arm"], rows["value"].astype(float)))
        return {str(split): _column(rows, str(split)) for split in sorted(set(rows["split"]))}

    def _results(self) -> dict[str, Any]:
        s = self.settings
        accuracy = _pick(UTILITY.read(self.folder / "tables"), metric="balanced_accuracy", scope="all")
        distance = _pick(
            FIDELITY.read(self.folder / "tables"),
            metric="frechet",
            scope="combination_mean",
            encoder=self.encoder().label,
        )
        measured = {"balanced_accuracy": accuracy, "frechet": distance}
        tables = {
            name: {split: _column(table, split) for split in ("seen", "unseen")} for name, table in measured.items()
        }
        extractor = self.encoder()
        return {
            "format_version": FORMAT_VERSION,
            "title": s.title,
            "seed": s.seed,
            **tables,
            "gap_closed": gap_closed(tables["balanced_accuracy"]["unseen"]),
            "seconds": self.stages.seconds,
            "control": self._named("control", metric="as_asked", scope="all", attribute=s.attribute),
            "copy_rate": self._named("memorisation", metric="copy_rate"),
            "encoder": {name: getattr(extractor, name) for name in ("name", "hash", "dimension", "licence")},
            "licences": {"data": s.cohort.licence} if s.cohort.licence else {},
            "phantom": "" if s.cohort.source else phantom.parameters_hash(),
            "versions": {"medi": __version__, "python": platform.python_version()} | _versions(),
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
            "settings": s.model_dump(mode="json"),
        }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def reopen(folder: str) -> Study:
    """The study whose settings lie in a run folder, for a worker."""
    path = Path(folder)
    return Study(read_study(path / SETTINGS), Run(path, Silent()))


def train_model(folder: str, model: str, advance: Advance) -> None:
    """Worker: train CLS on the class alone or MeDi on class and metadata, all else alike."""
    study = reopen(folder)
    s, cohort = study.settings, study.split()
    schema = cohort.schema if model == "medi" else cohort.schema.restrict([])
    patches, validation = cohort.where(split="train"), cohort.where(split="validation")
    train(patches, study.folder / "models" / model, s.network, s.training, schema, s.seed, validation, advance, draw)


def sample_model(folder: str, model: str, advance: Advance) -> None:
    """Worker: the synthetic cohort of one model."""
    study = reopen(folder)
    checkpoint = study.folder / "models" / model / "model.safetensors"
    rows = read_table(study.folder / "plan" / "rows.parquet")
    s, out = study.settings, study.folder / "samples" / model
    worse = checkpoint.with_name(EARLY) if s.sampling.guidance.autoguidance else None
    generate(checkpoint, rows, out, s.seed, s.sampling, advance, worse=worse)


def draw_reference(folder: str, name: str, advance: Advance) -> None:
    """Worker: fresh real patches of every combination, from slides that no other set shares."""
    study = reopen(folder)
    study.source.draw(name, advance).save(study.folder / "references" / name)


def gap_closed(accuracy: Mapping[str, float | None]) -> float | None:
    """(medi - real) / (oracle - real) on unseen combinations; None where the oracle gains nothing (P7)."""
    real, medi, oracle = (accuracy.get(arm) for arm in ("real", "medi", "oracle"))
    if real is None or medi is None or oracle is None or oracle <= real:
        return None
    return (medi - real) / (oracle - real)


def _cells(table: pd.DataFrame, over: tuple[str, ...]) -> list[tuple[str, ...]]:
    return list(table[list(over)].itertuples(index=False, name=None))


def _like(pool: Embedded, wanted: pd.DataFrame, over: tuple[str, ...]) -> Embedded:
    """As many rows of every combination as `wanted` has, the first ones of `pool`."""
    needed = pd.Series(_cells(wanted, over)).value_counts()
    cells = pd.Series(_cells(pool.table, over))
    return pool.take((cells.groupby(cells).cumcount() < cells.map(needed).fillna(0)).to_numpy())


def _pick(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    return table[np.logical_and.reduce([table[column] == value for column, value in wanted.items()])]


def _column(table: pd.DataFrame, split: str) -> dict[str, float]:
    """Value by arm in one split."""
    rows = table[table["split"] == split]
    return dict(zip(rows["arm"], rows["value"].astype(float)))
