"""Functions around the training step: applying updates, editing optimizers, reading states."""
