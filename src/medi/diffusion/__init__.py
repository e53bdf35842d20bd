"""Images from conditions: conditioning, denoiser, training, sampling. Imports `cohort` and nothing beside it."""
