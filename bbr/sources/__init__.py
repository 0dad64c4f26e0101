"""Where the model table comes from; each source builds a new registry snapshot."""
