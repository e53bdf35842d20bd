"""From patches to weights: recipe, data, loss, optimisers, loop. Imports `models`; a sibling of `sampling`."""
