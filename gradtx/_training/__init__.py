"""What stands around the step: applying updates, editing optimizers, reading states."""
