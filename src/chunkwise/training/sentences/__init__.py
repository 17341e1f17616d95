"""What the recipe `segmenter` is made of: texts, their corruption, the network, heads, scores."""
