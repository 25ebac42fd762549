"""One table of every schedule: code that makes it, and that makes its oracle in NumPy float64 too.

Every law of `tests/schedules` runs on every row. A new schedule is one more row, and one more function
in `schedule_oracles.py`; `test_every_public_schedule_has_a_row` asks for it.
"""

import schedule_oracles

import gradtx

NAMES = {name: getattr(gradtx, name) for name in dir(gradtx)}

CYCLE = "{'init_value': 0.1, 'peak_value': 1.0, 'warmup_steps': 2, 'decay_steps': 5}"

ROWS = [
    "constant_schedule(0.5)",
    "linear_schedule(1.0, 0.1, 10)",
    "linear_schedule(0.0, 1.0, 7, transition_begin=3)",
    "polynomial_schedule(1.0, 0.1, 2.0, 10, transition_begin=3)",
    "polynomial_schedule(0.2, 1.0, 0.5, 6)",
    "cosine_decay_schedule(1.0, 10)",
    "cosine_decay_schedule(0.8, 12, alpha=0.1, exponent=2.5)",
    "exponential_decay(1.0, 10, 0.5)",
    "exponential_decay(1.0, 3, 0.9, transition_begin=2, staircase=True, end_value=0.6)",
    "exponential_decay(0.1, 5, 1.5, end_value=0.4)",
    "piecewise_constant_schedule(1.0, {3: 0.5, 8: 0.1})",
    "piecewise_constant_schedule(0.7)",
    "piecewise_interpolate_schedule('linear', 1.0, {3: 0.5, 8: 0.1})",
    "piecewise_interpolate_schedule('cosine', 1.0, {3: 0.5, 8: 0.1})",
    "cosine_onecycle_schedule(20, 0.5)",
    "cosine_onecycle_schedule(10, 1.0, 0.5, div_factor=10.0, final_div_factor=100.0)",
    "linear_onecycle_schedule(20, 0.5)",
    "linear_onecycle_schedule(10, 1.0, 0.2, pct_final=0.7, div_factor=4.0, final_div_factor=8.0)",
    "warmup_constant_schedule(0.1, 1.0, 5)",
    "warmup_cosine_decay_schedule(0.0, 0.1, 2, 10)",
    "warmup_cosine_decay_schedule(0.1, 1.0, 0, 10, end_value=0.2, exponent=0.5)",
    "warmup_exponential_decay_schedule(0.1, 1.0, 4, 3, 0.5, transition_begin=2)",
    "warmup_exponential_decay_schedule(0.1, 1.0, 4, 3, 0.5, staircase=True, end_value=0.2)",
    "warmup_stable_decay_schedule(0.0, 1.0, 4, 5, 6)",
    "warmup_stable_decay_schedule(0.1, 1.0, 4, 5, 6, end_value=0.1, decay_type='cosine')",
    "warmup_stable_decay_schedule(0.1, 1.0, 4, 5, 6, decay_type='1-sqrt')",
    "warmup_inverse_sqrt_schedule(0.1, 1.0, 4)",
    "warmup_inverse_sqrt_schedule(0.1, 1.0, 0, timescale=4.0)",
    "join_schedules([linear_schedule(0.1, 1.0, 5), 1.0, cosine_decay_schedule(1.0, 5)], [5, 8])",
    f"sgdr_schedule([{CYCLE}, {CYCLE} | {{'peak_value': 0.5, 'decay_steps': 10}}])",
    # Conventions
    "eps_hat(1e-08, 0.9)",
    "dampened(0.1)",
    "inverse_time(0.01)",
    "power_decay(0.8, 2)",
    "from_first(0.9)",
    "step_power(0.25, 0.5)",
    "half_life_schedule(0.9, 0.999, 10)",
    "rectification(0.9, 4.5)",
    "before_rectification(0.9)",
    # Arithmetic
    "2.0 * cosine_decay_schedule(0.5, 10) + 1e-05",
    "1.0 - (linear_schedule(0.1, 0.5, 5) - 0.1) * (0.5 * dampened(0.5))",
    "-(1.0 / linear_schedule(1.0, 2.0, 5)) / (-linear_schedule(0.5, 1.0, 5))",
    "cosine_decay_schedule(1.0, 10).max(0.25).min(linear_schedule(0.1, 1.0, 5))",
    "linear_schedule(0.25, 1.0, 5).raised_to(-0.5)",
    "(2.0 * warmup_constant_schedule(0.1, 1.0, 5)).shift(3)",
    "linear_schedule(0.1, 1.0, 10).shift(-3)",
]


def make(code):
    return eval(code, dict(NAMES))


def oracle(code):
    return eval(code, dict(schedule_oracles.NAMES))
