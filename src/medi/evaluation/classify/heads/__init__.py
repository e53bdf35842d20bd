"""Heads: what is trained on the embeddings of a training set, by name in the registry "head".

Each is told of in docs/how-to/utility.md. `needs` says whether a head uses the site of a test patch, which is known in
this project; a site that training has not is left as it is.
"""

from medi.core.registry import registry
from medi.evaluation.classify.heads.adjusted import logit_adjustment
from medi.evaluation.classify.heads.adversary import WEIGHTED, adversary
from medi.evaluation.classify.heads.aligned import COMBINATIONS_ALIKE, EITHER, ROWS_ALIKE, Aligned, logistic, still
from medi.evaluation.classify.heads.contract import SITE, Classifier, Head, Setting, Trained, Tuned, Undefined
from medi.evaluation.classify.heads.crm import crm
from medi.evaluation.classify.heads.leace import leace, leace_within
from medi.evaluation.classify.heads.sites import combat, two_way
from medi.evaluation.classify.heads.vote import SoftVote

__all__ = ["HEADS", "Classifier", "Head", "Setting", "SoftVote", "Trained", "Tuned", "Undefined"]

HEADS: dict[str, Head] = {
    "logistic": logistic,
    "logistic_weighted": Tuned(Aligned(still), COMBINATIONS_ALIKE),
    "two_way": Tuned(Aligned(two_way), EITHER, SITE),
    "leace": Tuned(Aligned(leace), EITHER),
    "leace_within": Tuned(Aligned(leace_within), EITHER),
    "combat": Tuned(Aligned(combat), EITHER, SITE),
    "crm": Tuned(crm, ROWS_ALIKE, SITE),
    "logit_adjustment": Tuned(logit_adjustment, ROWS_ALIKE),
    "adversary": Tuned(adversary, WEIGHTED),
}
registry("head").fill(HEADS)
