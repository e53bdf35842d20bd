"""Are synthetic images distributed like real ones? Distances at equal n, beside the real-versus-real floor."""
