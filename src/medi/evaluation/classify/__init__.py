"""Does a training set make the classifier better? The same head on frozen embeddings of every training set."""
