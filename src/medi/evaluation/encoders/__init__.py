"""Encoders: named, hashed feature extractors, and `embed`, the one way from pixels to features (P2)."""

from medi.evaluation.encoders.colour_texture import COLOUR_TEXTURE
from medi.evaluation.encoders.contract import Encoder, Features
from medi.evaluation.encoders.embedding import cached, embed, embed_share, embedded
from medi.evaluation.encoders.registry import Availability, available, encoder

__all__ = [
    "COLOUR_TEXTURE",
    "Availability",
    "Encoder",
    "Features",
    "available",
    "cached",
    "embed",
    "embed_share",
    "embedded",
    "encoder",
]
