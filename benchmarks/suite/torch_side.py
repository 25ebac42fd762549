"""Print the seconds of one step of torch.optim.Muon, and of one product of 2048 x 2048 float32 matrices.

`muon_torch.py` runs this file as `python torch_side.py float32|bfloat16 CLOCK`, with an interpreter
that has torch. Nothing else needs torch.
"""

import inspect
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.optim import _muon


def main(dtype: str, clock: Callable[[], float]) -> tuple[float, float]:
    torch.manual_seed(0)
    if dtype == "float32":
        # torch casts to bfloat16 whatever the dtype of the parameters; here the cast is taken out.
        source = inspect.getsource(_muon._zeropower_via_newtonschulz)
        if "bfloat16()" not in source:
            raise SystemExit(
                "The cast to bfloat16 was not found in torch's Muon; torch has changed."
            )
        exec(source.replace("bfloat16()", "float()"), vars(_muon))
    width, params = 512, []
    for _ in range(3):
        shapes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
        params += [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.Muon(params, lr=1e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    square = torch.randn(2048, 2048)
    return median(optimizer.step, clock), median(lambda: square @ square, clock)


def median(run: Callable[[], object], clock: Callable[[], float]) -> float:
    times = []
    for _ in range(10):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    print(*main(sys.argv[1], getattr(time, sys.argv[2])))
