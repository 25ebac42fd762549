"""Counting the programs that JAX compiles."""

import jax


class Compilations:
    """The number of programs that were compiled since it was made."""

    def __init__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self.listen)

    def listen(self, event, duration, **_):
        self.count += event == "/jax/core/compile/backend_compile_duration"
