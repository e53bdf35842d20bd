"""What a measure is given: packed patches that an encoder embeds, or features that another program made."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from medi.api.results import AS_GIVEN
from medi.cohort import readers
from medi.cohort.certificate import may_share_tests, trained_under
from medi.cohort.readers.features.loading import load_features, not_compared, same_features
from medi.cohort.schema import check_names
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Show, Silent, Tally
from medi.core.set_names import NORMALISATIONS, normalised_name
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.stained import STAIN
from medi.evaluation.encoders import Encoder, cached
from medi.evaluation.encoders import encoder as named_encoder
from medi.evaluation.features import REAL, Embedded
from medi.evaluation.splits import ORACLE

Given = Cohort | str | Path  # a cohort, the folder that holds one, or a file of features with the columns of a table
COLOUR_SAMPLE = 64  # patches that tell whether a cohort is grey
SHOWN_ELSEWHERE = ("translated", "style")  # sets of real patches at another level: by MeDi, by style transfer


def cohort_of(given: Given, features: str | Path | None = None, name: str = "") -> Cohort:
    """The patches of a cohort, with the features of a file or folder where one is named. name: of a synthetic set.

    MediError for a cohort that has neither images nor features.
    """
    cohort = given if isinstance(given, Cohort) else _opened(Path(given), name)
    cohort = readers.with_features(cohort, features)
    if cohort.pixels is None and not cohort.has_features:
        where = "the cohort" if isinstance(given, Cohort) else str(given)
        raise MediError(f"{where}: not packed; `medi pack` or Cohort.pack decodes its images")
    return cohort


def _opened(path: Path, name: str) -> Cohort:
    """A cohort's folder, or features that say themselves what they are of; those of a generator have no patients."""
    cohort = readers.opened(path, **({"attributes": []} if name else {}))
    is_folder = (path / "cohort.json").exists()
    return cohort if is_folder or name in ("", ORACLE) else cohort.with_columns(patient="", slide="")


def columns_of(cohort: Cohort, given: Sequence[str] | None) -> tuple[str, ...]:
    """The columns whose combinations count: those given, else those of the hold-out; MediError for unknown ones."""
    columns = given or _of_the_holdout(cohort)
    known = {a.name for a in cohort.schema.conditions}
    if unknown := [name for name in columns if name not in known]:
        raise MediError(f"over {unknown[0]!r}: no condition of this cohort; known: {', '.join(sorted(known))}")
    if "class" not in columns:
        raise MediError(f"over {', '.join(columns)}: the class must be among these columns; add it")
    check_names(columns)
    return tuple(columns)


def _of_the_holdout(cohort: Cohort) -> list[str]:
    """The class and the columns that were held out; of a cohort without a hold-out all that have levels."""
    levels = [a.name for a in cohort.schema.conditions if a.kind == "categorical"]
    held = [name for name in cohort.info.get("certificate", {}).get("columns", []) if name in levels]
    return list(dict.fromkeys(["class", *held])) if held else levels


def encoder_of(chosen: str | Encoder, cohorts: Mapping[str, Cohort]) -> Encoder:
    """The encoder that a measure uses; where features are given, what they say of theirs.

    MediError where some sets have features and others images alone, and for features of two encoders.
    """
    if not any(cohort.has_features for cohort in cohorts.values()):
        return named_encoder(chosen) if isinstance(chosen, str) else chosen
    if lacking := [name for name, cohort in cohorts.items() if not cohort.has_features]:
        first = next(name for name, cohort in cohorts.items() if cohort.has_features)
        raise MediError(
            f"{first} has features and {lacking[0]} images alone: give features of {lacking[0]} by the same encoder "
            f"({lacking[0]}=FILE), or pack the images of {first}"
        )
    width, made = same_features(cohorts)
    return Encoder("-".join((made or "features").split()), width, 0, "", AS_GIVEN, _refuse)


def is_given(encoder: Encoder) -> bool:
    """Whether features were made elsewhere, so that no image can be embedded."""
    return encoder.hash == AS_GIVEN


def notes_on(encoder: Encoder, cohorts: Mapping[str, Cohort]) -> tuple[str, ...]:
    """What could not be compared of features that were made elsewhere, and whose model may have seen the test."""
    return (*(not_compared(cohorts) if is_given(encoder) else ()), *_of_other_holdouts(cohorts))


def _of_other_holdouts(cohorts: Mapping[str, Cohort]) -> list[str]:
    """A line where the model of a set was trained on the training patches of another hold-out (P5)."""
    own = trained_under(cohorts[REAL].info.get("certificate", {}))
    odd = [name for name, part in cohorts.items() if may_share_tests(part.info.get("holdout", {}), own)]
    if not odd:
        return []
    return [
        f"{', '.join(odd)}: the model was trained under another hold-out of these patches, so it may have seen what "
        "tests here; train and sample under this one"
    ]


def _refuse(images: np.ndarray) -> np.ndarray:
    raise MediError("images cannot be embedded here: the features were made by another program")


def arms_of_images(real: Embedded, names: Sequence[str], more: Sequence[str] = ()) -> list[Arm]:
    """The arms that embed other images, where there are features alone: their reason stands in the result.

    more: sets that are added to the real patches, and would be stain-normalised with them.
    """
    why = "needs images, and an encoder that embeds them; features alone are given"
    asked = [name for name in (*STAIN, *SHOWN_ELSEWHERE) if {"all", "stains", name} & set(names)]
    asked += [normalised_name(added, by) for by in NORMALISATIONS if by in asked for added in more]
    return [Arm(name, real, reason=why) for name in asked]


def embedded(
    cohorts: Mapping[str, Cohort], extractor: Encoder, cache: str | Path | None, show: Show
) -> dict[str, Embedded]:
    """Features and table of each cohort; sizes must agree."""
    if is_given(extractor):
        return {name: Embedded(load_features(cohort), cohort.table) for name, cohort in cohorts.items()}
    sizes = {name: cohort.images.size for name, cohort in cohorts.items()}
    first = next(iter(sizes))
    if odd := [name for name, size in sizes.items() if size != sizes[first]]:
        raise MediError(
            f"{odd[0]} has patches of {sizes[odd[0]]} px and {first} of {sizes[first]}: pack both to one size"
        )
    return dict(embed_sets(cohorts, extractor, cache, show))


def embed_sets(
    cohorts: Mapping[str, Cohort], extractor: Encoder, cache: str | Path | None = None, show: Show | None = None
) -> Iterator[tuple[str, Embedded]]:
    """What `embed` and a study call: the features of each set in turn, under one bar."""
    folder = Path(cache) if cache else None
    with (show or Silent()).bars("embedding") as (advance,):
        tally = Tally(advance, sum(map(len, cohorts.values())))
        for name, cohort in cohorts.items():
            features = cached(cohort, extractor, folder, tally.part())
            yield name, Embedded(features.astype(np.float64), cohort.table)


def check_colour(cohorts: Mapping[str, Cohort]) -> None:
    """Grey patches against coloured ones would measure the colour alone."""
    grey = {}
    for name, cohort in ((name, cohort) for name, cohort in cohorts.items() if len(cohort) and cohort.pixels):
        rows = np.linspace(0, max(len(cohort), 1), COLOUR_SAMPLE, endpoint=False).astype(np.int64)
        images = cohort.images[np.unique(rows)]
        grey[name] = bool((images == images[..., :1]).all())
    if len(set(grey.values())) > 1:
        without, coloured = ([name for name in grey if grey[name] is kind] for kind in (True, False))
        raise MediError(
            f"{without[0]} has grey patches and {coloured[0]} coloured ones: pack both from images of one colour mode"
        )
