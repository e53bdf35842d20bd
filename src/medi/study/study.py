"""A study from cohort to report: reading `road` from top to bottom is reading the method of the paper."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from medi.core.errors import MediError, did_you_mean
from medi.core.locks import locked
from medi.core.progress import Show, Silent
from medi.core.registry import registry
from medi.core.set_names import FILTERED, ONLY
from medi.evaluation.classify.arms import ALL, NONE
from medi.evaluation.classify.crossed import check_heads
from medi.evaluation.classify.stained import STAIN
from medi.evaluation.encoders import encoder, learned
from medi.evaluation.features import ROUND_TRIP
from medi.evaluation.fidelity.measures import metrics
from medi.models.classifier import known_levels
from medi.sampling.solvers import check_bounds
from medi.study import generating, measuring, preparing
from medi.study.context import (
    CLASSIFIER,
    LEARNED,
    MEDI,
    MODELS,
    SETTINGS,
    STYLE,
    STYLE_MODEL,
    TRAINING_AUDIT,
    TRANSLATED,
    Study,
    embeddings_of,
    measured,
)
from medi.study.generating import discard_models, style_of, translation_of
from medi.study.results import Results, conclude
from medi.study.settings import StudySettings, find_study, refuse_changed
from medi.study.sources import source_of
from medi.study.stages import Ahead, Run, Stage, altered, discard_parts, usable
from medi.training.latents import network_of


def run(
    study: str | Path | StudySettings,
    out: str | Path = "medi-run",
    source: str | Path | None = None,
    seed: int | None = None,
    redo: bool = False,
    show: Show | None = None,
) -> Results:
    """A whole study in the folder `out`: cohort, audit, hold-out, both models, samples, measures and report.

    study: a study file, the name of one that medi brings ("demo", "quick" and others), or settings. source: a cohort in
    place of the study's own. seed: in place of the study's own. redo: do stale stages again. show: is told of every
    stage, and shows bars. The same call goes on after a kill, and returns at once where all is done.

    MediError for a wrong study file, unknown names, and a folder that holds anything else; nothing is written then.

    >>> import medi
    >>> results = medi.run("quick", out="my-run")  # doctest: +SKIP
    >>> medi.run("quik")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    medi.core.errors.MediError: quik: no such study file; medi brings ...; did you mean 'quick'?
    """
    settings = find_study(study, source, seed)
    check(settings)
    with locked(usable(Path(out))):
        return _run(settings, Path(out), show or Silent(), redo)


def _run(settings: StudySettings, out: Path, show: Show, redo: bool) -> Results:
    run_folder = opened(settings, out, show, redo)
    study = Study(settings, run_folder.folder, run_folder.show)
    for beside, stages in groupby(road(settings), attrgetter("beside")):
        if beside:
            run_folder.do_beside(list(stages), study, measured)
        else:
            for stage in stages:
                run_folder.do(stage, study)
    return conclude(study)


def opened(settings: StudySettings, out: Path, show: Show, redo: bool) -> Run:
    """The run in a folder; MediError where it was run with other settings and is not to be redone."""
    found = Run(out, show, redo)
    kept = found.records.get(SETTINGS)
    if not redo and kept is not None and not altered(out, [SETTINGS], kept.files):  # a damaged file is no setting
        refuse_changed(settings, out / SETTINGS)
    return found


def road(s: StudySettings) -> list[Stage[Study]]:
    """The stages of a study in their order, without those that its settings do not ask for."""
    asked = {"references": bool(source_of(s).drawn), TRANSLATED: s.evaluation.translated}
    asked |= dict.fromkeys((STYLE_MODEL, STYLE), s.evaluation.style)
    asked[CLASSIFIER] = s.sampling.guidance.needs_classifier
    asked[ROUND_TRIP] = bool(s.training.autoencoder)
    asked[table("by_encoder")] = len(s.evaluation.encoders) > 1
    asked[table("recommend")] = s.utility.recommend not in ((), (NONE,))
    asked[LEARNED] = learned.NAME in s.evaluation.encoders
    features = [_embedding(s, name, asked) for name in s.evaluation.encoders]
    stages = [
        Stage(SETTINGS, preparing.keep_settings, settings=s),
        # the biased cohort, what gives its class away, and a part of its combinations taken away
        Stage("cohort", preparing.collect, settings=source_of(s).key()),
        Stage("audit", preparing.audit_cohort, ("cohort",)),
        Stage("holdout", preparing.hold_out, ("cohort",), [s.holdout, s.attribute, s.seed]),
        Stage(TRAINING_AUDIT, preparing.audit_training, ("audit", "holdout")),
        # real patches beside it, where more can be drawn: reference, real-vs-real floor, oracle
        Stage("references", preparing.draw_references, ("cohort",), [s.evaluation, s.plan, s.cohort, s.seed]),
        # CLS, p(image | class), and MeDi, p(image | class, metadata), fill every combination to the same count
        Stage("plan", preparing.plan_samples, ("holdout",), [s.plan, s.attribute, s.seed]),
        *_generating(s),
        _round_trip(s, asked),
        # features of all patches, by each encoder
        Stage(LEARNED, measuring.learn_encoder, ("holdout",), [s.seed, s.evaluation.learned_images]),
        *features,
        *_measuring(s, [stage.name for stage in features]),
    ]
    return [stage for stage in stages if asked.get(stage.name, True)]


def _measuring(s: StudySettings, features: Sequence[str]) -> list[Stage[Study]]:
    """The stages that read features alone, none of them another's tables; the longest first, as two work at once."""
    first, decided_by = features[0], [s.evaluation, s.attribute, s.seed]
    return [
        # which remedy training itself would choose, whatever the test patches say
        _recommending(s, first),
        # what a classifier gains, how near samples are, whether they are new and show what was asked for
        Stage(
            table("by_encoder"),
            measuring.measure_by_encoder,
            tuple(features[1:]),
            [*decided_by, list(registry("arm"))],
            version=3,
            beside=True,
        ),
        Stage(
            table("utility"),
            measuring.measure_utility,
            (first,),
            [*decided_by, list(registry("arm")), *([s.utility.heads] if s.utility.heads else [])],
            version=4 if s.utility.heads else 3,  # the heads vote
            also=(table("curves"), *([table("heads")] if s.utility.heads else [])),
            beside=True,
        ),
        Stage(
            table("fidelity"),
            measuring.measure_fidelity,
            tuple(features),
            [*decided_by, metrics()],
            version=2,
            beside=True,
        ),
        Stage(
            table("memorisation"),
            measuring.measure_memorisation,
            (first,),
            [s.attribute, s.seed],
            version=3,
            also=(table("suspects"), "suspects"),
            beside=True,
        ),
        Stage(
            table("control"),
            measuring.measure_control,
            (first,),
            [s.attribute, s.seed],
            version=2,
            also=(table("confusion"),),
            beside=True,
        ),
    ]


def _generating(s: StudySettings) -> list[Stage[Study]]:
    """The stages that make images; several GPUs and machines share the work of most."""
    return [
        Stage(
            "models",
            generating.train_models,
            ("holdout",),
            [s.network, s.training, s.seed],
            discard=discard_models,
            ahead=Ahead(generating.train_model, MODELS, is_cut=False),
        ),
        Stage(CLASSIFIER, generating.train_guide, ("holdout",), [s.classifier, s.seed]),
        Stage(
            "samples",
            generating.sample_models,
            ("plan", "models", *([CLASSIFIER] if s.sampling.guidance.needs_classifier else [])),
            [s.sampling, s.seed],
            discard=discard_parts,
            ahead=Ahead(generating.sample_model, MODELS),
        ),
        Stage(
            TRANSLATED,
            generating.translate,
            ("plan", "models"),
            [translation_of(s), s.attribute, s.seed],
            ahead=Ahead(generating.translate_part),
        ),
        # the same patches by an image-to-image translator between the levels, in place of a diffusion model
        Stage(STYLE_MODEL, generating.train_style_model, ("holdout",), [style_of(s), s.attribute, s.seed]),
        Stage(STYLE, generating.restyle, ("plan", STYLE_MODEL), [s.attribute, s.seed]),
    ]


def _recommending(s: StudySettings, features: str) -> Stage[Study]:
    """The choice of a remedy, with the models of inner hold-outs where these are asked for."""
    inner = (generating.INNER,) if s.utility.with_models else ()
    decided_by = [s.attribute, s.seed, s.evaluation.stains, s.utility.recommend]
    decided_by += [s.utility.with_models] if inner else []
    name, work = table("recommend"), measuring.recommend_remedy
    beside = not inner  # their trainings take processes of their own
    version = 4 if inner else 3  # the better half votes; with models, their images after stain normalisation as well
    return Stage(name, work, (features,), decided_by, version, also=inner, discard=discard_parts, beside=beside)


def _round_trip(s: StudySettings, asked: Mapping[str, bool]) -> Stage[Study]:
    """Patches of the floor through the autoencoder of the models."""
    reads = "references" if asked["references"] else "holdout"
    decided_by = [s.training.autoencoder, s.evaluation.distance_images]
    return Stage(ROUND_TRIP, generating.round_trip, (reads,), decided_by)


def _embedding(s: StudySettings, name: str, asked: Mapping[str, bool]) -> Stage[Study]:
    """The features of all patches by one encoder; the study's own encoder is a stage that this one reads."""
    more = [stage for stage in ("references", TRANSLATED, STYLE, ROUND_TRIP) if asked[stage]]
    is_own = name == learned.NAME
    reads = ("holdout", "samples", *more, *([LEARNED] if is_own else []))
    decided_by = name if is_own else [encoder(name).name, encoder(name).hash]
    work = partial(measuring.embed_patches, encoder=name)
    ahead = Ahead(partial(measuring.embed_shard, encoder=name))
    return Stage(embeddings_of(s, name), work, reads, decided_by, ahead=ahead)


def table(name: str) -> str:
    """The file of a result table in a run folder."""
    return f"tables/{name}.parquet"


def check(s: StudySettings) -> None:
    """Refuse what cannot work before anything is written."""
    source_of(s).check()
    network_of(s.network, s.training)  # opens the autoencoder
    check_bounds(s.sampling.solver, not s.training.autoencoder)
    if s.sampling.guidance.needs_classifier:
        _check_classifier(s)
    for name in s.evaluation.encoders:
        if name != learned.NAME:
            encoder(name)
    own = [f"{MEDI}{end}" for end in (FILTERED, ONLY)]
    check_heads([*s.utility.heads, *(name for name in s.utility.recommend if name not in (ALL, NONE))])
    _refuse_unknown("arms", s.evaluation.arms, [ALL, NONE, *registry("arm"), *own])
    _refuse_unknown("stains", s.evaluation.stains, STAIN)


def _check_classifier(s: StudySettings) -> None:
    if s.training.autoencoder:
        raise MediError(
            "sampling.guidance: a classifier guides models of pixels and chooses among their candidates, not models of "
            "latents: leave out classifier and candidates, or the autoencoder"
        )
    s.classifier.check_size(s.cohort.size)
    s.sampling.check_classifier(known_levels(s.classifier.noise_mean, s.classifier.noise_std))


def _refuse_unknown(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            raise MediError(f"evaluation.{key}: {name!r} is unknown; known: {', '.join(known)}{near}")
