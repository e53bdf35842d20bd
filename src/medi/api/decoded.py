"""What the autoencoder of synthetic sets does to real patches: the best that a model on its latents can reach."""

from collections.abc import Mapping, Sequence

from medi.cohort.combinations import at_most
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.progress import Show
from medi.evaluation.features import ROUND_TRIP
from medi.evaluation.fidelity.compare import halves
from medi.models.autoencoder import Autoencoder, through
from medi.models.space import check_same


def round_trips(
    real: Cohort, sets: Mapping[str, Cohort], over: Sequence[str], n: int, seed: int, show: Show
) -> dict[str, Cohort]:
    """The patches of the floor, at most n a combination, after the round trip of the sets' autoencoder.

    Nothing where no set was decoded. Where the autoencoder is not here any more, or the sets have several, a line says
    that this floor is left out.
    """
    entries = {part.info["latents"]["hash"]: part.info["latents"] for part in sets.values() if "latents" in part.info}
    if not entries or real.pixels is None:
        return {}
    if len(entries) > 1:
        show.line("the sets were decoded by several autoencoders: no round trip stands beside the distances")
        return {}
    (entry,) = entries.values()
    try:
        found = Autoencoder.open(entry["autoencoder"])
        check_same(found, entry, "these patches")
    except MediError as error:
        show.line(f"the autoencoder's round trip does not stand beside the distances: {error}")
        return {}
    floor = real.select(~halves(real.table, over, seed))
    with show.bars("round trip") as (advance,):
        return {ROUND_TRIP: through(found, floor.select(at_most(floor.table, over, n)), advance)}
