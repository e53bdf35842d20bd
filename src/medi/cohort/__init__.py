"""What we know of the patches: table, schema, pixels, and the bias in them. Imports `core` alone."""
