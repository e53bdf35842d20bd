"""MeDi: metadata-guided diffusion for histopathology (after Drexlin et al., MICCAI 2025)."""

__version__ = "0.1.0"
