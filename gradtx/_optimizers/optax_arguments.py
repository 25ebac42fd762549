"""What to write for arguments that Optax's optimizers have and those of gradtx do not."""

MUON = {
    "consistent_rms": 'write `scaling="match_rms"`, which is `consistent_rms=0.2`',
    "eps": "leave it out, since no quotient in the iteration needs it",
    "muon_weight_dimension_numbers": "write `axes=`, a rule such as `hidden_matrices()`",
    "ns_coeffs": "write `coefficients=`, a preset's name or triples",
    "ns_steps": "write `steps=`",
    "preconditioning": "leave it out, since every matrix is divided by a bound of its norm",
    "weight_decay_mask": "write `mask=`",
} | dict.fromkeys(
    ("adam_b1", "adam_b2", "adam_eps_root", "adam_learning_rate", "adam_weight_decay"),
    "write `auxiliary=adamw(...)`, the optimizer of all parameters that are not matrices",
)
