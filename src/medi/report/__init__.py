"""Pages and figures from result tables. Imports neither `diffusion` nor `evaluation`."""
