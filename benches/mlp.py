"""One training step of PyTorch on the processor, for `cargo bench --bench mlp`: CPU seconds of all threads.

    python3 benches/mlp.py ANIMALS SNPS BATCH THREADS

Prints one line a variant, `CPU seconds<tab>variant`: genotypes as f32 or as bytes that each batch turns into f32,
batch normalisation or none. Adam is the fused one, gradients are freed rather than filled with zeros.
"""

import resource
import sys

import torch


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def network(m, norm):
    layers, width = [], m
    for units in (512, 256):
        layers.append(torch.nn.Linear(width, units, bias=not norm))
        if norm:
            layers.append(torch.nn.BatchNorm1d(units))
        layers.append(torch.nn.LeakyReLU(0.01))
        width = units
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 33))


def main():
    n, m, size, threads = map(int, sys.argv[1:5])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    codes = torch.randint(0, 3, (n, m), dtype=torch.uint8)
    standardised = (codes.float() - 1) / 0.8165
    y = torch.randn(n, 33)
    for norm in (False, True):
        for kind, x in (("f32", standardised), ("bytes", codes)):
            model = network(m, norm)
            adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

            def step():
                rows = torch.randperm(n)[:size]
                batch = x[rows] if kind == "f32" else (x[rows].float() - 1) / 0.8165
                loss = torch.nn.functional.mse_loss(model(batch), y[rows])
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()

            for _ in range(5):
                step()
            best = float("inf")
            for _ in range(20):
                start = cpu_seconds()
                step()
                best = min(best, cpu_seconds() - start)
            print(f"{best}\t{'batch norm' if norm else 'no norm'}\t{kind}", flush=True)


main()
