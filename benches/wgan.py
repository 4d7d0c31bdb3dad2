"""One iteration of WGAN-GP in PyTorch on the processor, for `cargo bench --bench wgan`: CPU seconds of all threads.

    python3 benches/wgan.py ANIMALS SNPS BATCH THREADS

Five steps of the critic with the gradient penalty by double backward, one step of the generator. Prints one line a
variant, `CPU seconds<tab>variant`: the noise on real classes drawn once for all or anew for each batch. Adam is the
fused one, gradients are freed rather than filled with zeros, the generator's step asks for no gradient of the
critic's weights and the critic's none of the generator's.
"""

import resource
import sys

import torch
from torch import nn

SLOPE = 0.05


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Block(nn.Module):
    def __init__(self, units, norm):
        super().__init__()
        layers = []
        for last in (False, True):
            layers.append(nn.Linear(units, units, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm1d(units))
            if not last:
                layers.append(nn.LeakyReLU(SLOPE))
        self.way = nn.Sequential(*layers)
        self.end = nn.LeakyReLU(SLOPE)

    def forward(self, x):
        return self.end(x + self.way(x))


def generator(classes):
    return nn.Sequential(
        nn.Linear(128, 512, bias=False), nn.BatchNorm1d(512), nn.LeakyReLU(SLOPE),
        Block(512, True), nn.Linear(512, 1024), nn.LeakyReLU(SLOPE), nn.Linear(1024, classes),
    )


def critic(classes):
    return nn.Sequential(
        nn.Linear(classes, 1024), nn.LeakyReLU(SLOPE),
        Block(1024, False), nn.Linear(1024, 512), nn.LeakyReLU(SLOPE), nn.Linear(512, 1),
    )


def smooth(x):
    noise = (1 - x) * torch.rand_like(x) * 0.025
    lost = noise.view(len(x), -1, 3).sum(2, keepdim=True)
    return noise + (x.view(len(x), -1, 3) * (1 - lost)).view(len(x), -1)


def main():
    n, m, size, threads = map(int, sys.argv[1:5])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    classes = nn.functional.one_hot(torch.randint(0, 3, (n, m)), 3).float().view(n, 3 * m)
    smoothed = smooth(classes)
    for fresh in (False, True):
        G, D = generator(3 * m), critic(3 * m)
        of = lambda net: torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.5, 0.9), fused=True)
        adam_g, adam_d = of(G), of(D)

        def made():
            x = G(torch.randn(size, 128)).view(-1, 3)
            return nn.functional.gumbel_softmax(x, tau=0.5).view(size, 3 * m)

        def iteration():
            for p in D.parameters():
                p.requires_grad_(True)
            for _ in range(5):
                rows = torch.randperm(n)[:size]
                real = smooth(classes[rows]) if fresh else smoothed[rows]
                with torch.no_grad():
                    fake = made()
                u = torch.rand(size, 1)
                between = (u * real + (1 - u) * fake).requires_grad_(True)
                judged = D(torch.cat([real, fake]))
                g, = torch.autograd.grad(D(between).sum(), between, create_graph=True)
                penalty = ((g.norm(2, 1) - 1) ** 2).mean()
                loss = judged[size:].mean() - judged[:size].mean() + 10 * penalty
                adam_d.zero_grad(set_to_none=True)
                loss.backward()
                adam_d.step()
            for p in D.parameters():
                p.requires_grad_(False)
            adam_g.zero_grad(set_to_none=True)
            (-D(made()).mean()).backward()
            adam_g.step()

        for _ in range(2):
            iteration()
        best = float("inf")
        for _ in range(8):
            start = cpu_seconds()
            iteration()
            best = min(best, cpu_seconds() - start)
        print(f"{best}\tnoise {'anew' if fresh else 'once'}", flush=True)


main()
