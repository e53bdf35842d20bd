"""The denoiser D(x, sigma, z) and what belongs to it: network, conditioning, checkpoints.

Imports `cohort` and `core`.
"""
