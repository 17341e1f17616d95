"""What the recipe `boundaries` is made of: documents, pairs of neighbours, figures."""
