"""Training: recipes that make a model from data, and the one loop that runs them."""

from chunkwise.training.base import Batch, Loss, Plan, Recipe, Source, Task, recipes

__all__ = ["Batch", "Loss", "Plan", "Recipe", "Source", "Task", "recipes"]
