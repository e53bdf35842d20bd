"""What every room needs and what knows none of them: errors, files, seeds, progress, processes, devices."""
