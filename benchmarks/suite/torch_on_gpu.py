"""Print the seconds of steps of torch.optim.Muon on a GPU: `python torch_on_gpu.py WIDTH LAYERS ROUNDS`.

`on_gpu.py` runs this file with an interpreter that has torch. Nothing else needs torch.
"""

import sys
import time

import torch

STEPS = 3


def main(width: int, layers: int, rounds: int) -> list[float]:
    params = []
    for _ in range(layers):
        shapes = [(width, width)] * 4 + [(width, 4 * width), (4 * width, width)]
        params += [torch.nn.Parameter(torch.randn(shape, device="cuda")) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.Muon(params, lr=1e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    times = []
    for _ in range(rounds + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            optimizer.step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / STEPS)
    return times[1:]


if __name__ == "__main__":
    print(*main(*map(int, sys.argv[1:])))
