"""Numbers from images: encoders, distances, classifiers, intervals. Imports `cohort`, never `diffusion`."""
