"""The phantom cohort: procedural H&E patches whose class (tissue) and site (stain, scanner) are known factors.

Tissue is a pair of concentration maps; a site renders it by Beer-Lambert, I = I0 exp(-(h v_h + e v_e)), then blurs,
adds noise and compresses. Every patch follows from keys alone (P3): the same tissue can be rendered at every site.
"""

from medi.cohort.phantom.cohorts import cohort, fresh, schema, twins
from medi.cohort.phantom.factors import (
    CLASSES,
    COMBINATIONS,
    FIELD,
    GROUPS,
    SCANNERS,
    SITES,
    SIZES,
    SLIDE,
    STAINS,
    TISSUES,
    Scanner,
    Section,
    Seeds,
    Stain,
    Tissue,
    parameters_hash,
)
from medi.cohort.phantom.render import render, stain_of
from medi.cohort.phantom.tissue import cut, slide_tissue

__all__ = [
    "CLASSES",
    "COMBINATIONS",
    "FIELD",
    "GROUPS",
    "SCANNERS",
    "SITES",
    "SIZES",
    "SLIDE",
    "STAINS",
    "TISSUES",
    "Scanner",
    "Section",
    "Seeds",
    "Stain",
    "Tissue",
    "cohort",
    "cut",
    "fresh",
    "parameters_hash",
    "render",
    "schema",
    "slide_tissue",
    "stain_of",
    "twins",
]
