"""Reading optimizers from text."""
