"""Whole slides: what their headers say, where their patches lie, and the pixels of a patch (extra `wsi`)."""
