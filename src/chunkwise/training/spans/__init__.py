"""What the `reader` recipe is made of: span data, distractors, examples, figures."""
