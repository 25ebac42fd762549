"""Hold random compositions against the laws for some time, and print what was tried: `make fuzz`.

python tests/fuzz/run.py --minutes 60 --compositions 1000 --first 0

Every composition is compiled once for each choice of dtypes, and runs on all sizes of gradients. The
first compositions are the rows of the zoo. A number draws the same composition and the same gradients
again, so `--first N --compositions 1` repeats what failed.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--compositions", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()

    begin, failures, tried = time.monotonic(), [], 0
    kinds = sorted(examine.DTYPES)
    for seed in range(options.first, options.first + options.compositions):
        if time.monotonic() - begin > 60 * options.minutes:
            break
        row = compositions.composed(seed)
        kind = kinds[seed % len(kinds)]
        if compositions.refused(row):
            continue
        tried += 1
        try:
            examine.examine(row, kind, seed)
        except Exception as error:
            failures.append((seed, row.code))
            print(f"failed: {row.code}\n    {type(error).__name__}: {str(error)[:400]}")
            print(
                f"    repeat: python tests/fuzz/run.py --first {seed} --compositions 1", flush=True
            )
        if tried % 20 == 0:
            jax.clear_caches()
            minutes = (time.monotonic() - begin) / 60
            print(f"{minutes:.1f} min: {tried} compositions, failures: {len(failures)}", flush=True)
    report(tried, failures, begin)
    return bool(failures)


def report(tried, failures, begin):
    by = collections.Counter()
    for (name, kind, size), count in examine.counts.items():
        by["transformation", name] += count
        by["dtypes", kind] += count
        by["size", size] += count
    for title in ("transformation", "dtypes", "size"):
        print(f"inputs by {title}:")
        for (of, name), count in sorted(by.items(), key=lambda item: -item[1]):
            if of == title:
                print(f"{count:8} {name}")
    print(
        f"{tried} compositions, {sum(examine.counts.values())} inputs of {examine.STEPS} steps, "
        f"{(time.monotonic() - begin) / 60:.1f} minutes, failures: {len(failures)}"
    )


if __name__ == "__main__":
    sys.exit(main())
