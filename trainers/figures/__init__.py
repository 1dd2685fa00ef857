"""Pictures for cards, runs and TensorBoard."""
