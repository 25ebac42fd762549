"""Hold random compositions against the laws for some time, and print what was tried: `make fuzz`.

python tests/fuzz/run.py --minutes 60 --compositions 1000 --first 0

Every composition is compiled once, for one choice of dtypes, and runs on all sizes of gradients. Each
row of the zoo comes once in every turn through all of them, alone or inside of others. A number draws
the same composition and the same gradients again, so `--first N --compositions 1` repeats what failed.
"""

import argparse
import collections
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

# The strict settings of all tests have to come before JAX is imported.
import conftest  # noqa: E402, F401, I001
import compositions  # noqa: E402
import examine  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--compositions", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()

    begin, failures, refusals, tried = time.monotonic(), [], collections.Counter(), 0
    kinds = sorted(examine.DTYPES)
    for number in range(options.first, options.first + options.compositions):
        if time.monotonic() - begin > 60 * options.minutes:
            break
        row, kind = compositions.composed(number, kinds)
        params = examine.trees(np.random.default_rng(number), kind, 1.0, number)
        if sentence := compositions.refusal(row, params):
            refusals[sentence] += 1
            continue
        tried += 1
        try:
            examine.examine(row, kind, number)
        except Exception as error:
            failures.append((number, row.code))
            print(f"failed: {row.code}\n    {type(error).__name__}: {str(error)[:400]}")
            print(
                f"    repeat: python tests/fuzz/run.py --first {number} --compositions 1",
                flush=True,
            )
        if tried % 20 == 0:
            jax.clear_caches()
            minutes = (time.monotonic() - begin) / 60
            print(f"{minutes:.1f} min: {tried} compositions, failures: {len(failures)}", flush=True)
    report()
    print(f"refused with a sentence: {sum(refusals.values())} compositions")
    for sentence, count in refusals.most_common():
        print(f"{count:8} {sentence}")
    print(
        f"{tried} compositions, {examine.inputs.total()} inputs of {examine.STEPS} steps, "
        f"{(time.monotonic() - begin) / 60:.1f} minutes, failures: {len(failures)}"
    )
    return bool(failures)


def report():
    """Print how many inputs of each size every transformation was tried on, for each kind of dtypes."""
    found = {(name, kind) for name, kind, _ in examine.counts}
    print(
        f"inputs of {'transformation':36}{'dtypes':10}" + "".join(f"{x:>9}" for x in examine.SIZES)
    )
    for name, kind in sorted(found):
        counts = (examine.counts[name, kind, size] for size in examine.SIZES)
        print(f"          {name:36}{kind:10}" + "".join(f"{count:9}" for count in counts))
    drawn = set().union(*(compositions.names(row.code) for row in compositions.LEAVES))
    print("not tried:", ", ".join(sorted(drawn - {name for name, _ in found})) or "none")


if __name__ == "__main__":
    sys.exit(main())
