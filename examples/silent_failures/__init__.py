"""How optimizers fail without an error: `python -m examples.silent_failures`.

cases.py      the inputs, each of them a function of the library
__main__.py   the table of the answers of Optax and of gradtx
"""
