"""The recipe `nano`: a causal language model that answers from several passages."""

from chunkwise.training.nano.recipe import NanoRecipe

__all__ = ["NanoRecipe"]
