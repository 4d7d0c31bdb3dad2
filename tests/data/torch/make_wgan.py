#!/usr/bin/env python3
"""Writes wgan.json: WGAN-GPs trained by PyTorch in f64, to which src/generate/wgan_gp/torch.rs holds `train wgan`.

Needs PyTorch and NumPy; the tests need neither. Run it in its own directory: `python3 make_wgan.py`.

Gradients are PyTorch's own, those of the gradient penalty too. Random numbers are the program's, drawn here from
Philox4x32-10 as it is published (Salmon et al. 2011), by the program's names of streams: (seed, purpose, index).

Conventions that the runs are posed in:
- genotypes are one-hot rows with the columns 3j + c; real ones have their zeros raised by up to `smoothing`;
- generated genotypes are softmax((logits + Gumbel noise)/temperature);
- weights are (inputs, units), PyTorch's are (units, inputs): all parameters of a network are one list, layer by layer,
  weight, weight of the conditions, bias (none before batch normalisation), shift, scale, and those of the layer that
  faces SNPs at the end: classes by units, classes by conditions, bias. A critic has no bias there, but a layer of its
  own behind it that adds conditions and bias;
- each network has one Adam for all of its parameters, and steps of its own count.
"""

import datetime
import json
import math

import numpy as np
import torch
from torch import nn

ANIMALS, SNPS, LATENT, SEED = 14, 7, 3, 11
# Purposes of streams: order of the animals, latent numbers, noise of real genotypes, share of the real animal, Gumbel
# noise, chosen conditions.
ORDER, LATENTS, SMOOTH, INTERPOLATE, GUMBEL, CONDITION = 13, 17, 18, 19, 20, 21
# Index of the generator's first step.
MAKER = 1 << 62
# Animals that give their conditions to a last batch, which is not learned from.
NEXT = [3, 0, 12, 5]


def philox(counter, key):
    """Philox4x32-10: four words."""
    (a, b, c, d), (k, l) = counter, key
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = q >> 32 ^ b ^ k, q & 0xFFFFFFFF, p >> 32 ^ d ^ l, p & 0xFFFFFFFF
        k, l = (k + 0x9E3779B9) & 0xFFFFFFFF, (l + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


# The known answer of the Random123 distribution.
assert philox([0] * 4, [0] * 2) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)


class Stream:
    """One stream of random words."""

    def __init__(self, purpose, index):
        self.of = lambda block: philox((block, purpose, index & 0xFFFFFFFF, index >> 32), (SEED, 0))
        self.next = 0

    def word(self, at):
        """Word `at`."""
        return self.of(at // 4)[at % 4]

    def below(self, n):
        """The next number below n (Lemire 2019); no stream of the runs meets a number that is refused."""
        wide = (self.word(self.next) | self.word(self.next + 1) << 32) * n
        self.next += 2
        assert wide & (1 << 64) - 1 >= n
        return wide >> 64


def uniforms(purpose, index, rows, columns):
    """Uniform numbers of 23 bits."""
    stream = Stream(purpose, index)
    numbers = [((stream.word(at) >> 9) + 0.5) / (1 << 23) for at in range(rows * columns)]
    return torch.tensor(numbers, dtype=torch.float64).reshape(rows, columns)


def normals(purpose, index, rows, columns):
    """Normal numbers (Box & Muller 1958)."""
    u = uniforms(purpose, index, rows, 2 * columns)
    return (-2 * u[:, ::2].log()).sqrt() * (2 * math.pi * u[:, 1::2]).cos()


class Part(nn.Module):
    """A linear layer of what comes before and the conditions, batch normalisation where asked."""

    def __init__(self, inputs, units, conditions, normalised):
        super().__init__()
        self.linear = nn.Linear(inputs, units, bias=not normalised)
        self.of_conditions = nn.Linear(conditions, units, bias=False) if conditions else None
        self.normalise = nn.BatchNorm1d(units) if normalised else None

    def forward(self, x, c):
        """What it gives."""
        x = self.linear(x)
        if self.of_conditions is not None:
            x = x + self.of_conditions(c)
        return x if self.normalise is None else self.normalise(x)

    def parameters_in_order(self):
        """All parameters in one list."""
        out = self.linear.weight.T.flatten().tolist()
        if self.of_conditions is not None:
            out += self.of_conditions.weight.T.flatten().tolist()
        out += [] if self.linear.bias is None else self.linear.bias.tolist()
        if self.normalise is not None:
            out += self.normalise.bias.tolist() + self.normalise.weight.tolist()
        return out


class Block(nn.Module):
    """A residual block."""

    def __init__(self, units, conditions, normalised, slope):
        super().__init__()
        self.parts = nn.ModuleList(
            [Part(units, units, conditions, normalised), Part(units, units, 0, normalised)]
        )
        self.activation = nn.LeakyReLU(slope)

    def forward(self, x, c):
        """What it gives."""
        inner = self.parts[1](self.activation(self.parts[0](x, c)), c)
        return self.activation(x + inner)

    def parameters_in_order(self):
        """All parameters in one list."""
        return [p for part in self.parts for p in part.parameters_in_order()]


class Generator(nn.Module):
    """The generator."""

    def __init__(self, widths, conditions, residual, slope):
        super().__init__()
        self.chain = nn.ModuleList([Part(LATENT, widths[0], conditions, True)])
        self.activation = nn.LeakyReLU(slope)
        for read, units in zip(widths, widths[1:]):
            if residual:
                self.chain.append(Block(read, conditions, True, slope))
            self.chain.append(Part(read, units, 0, False))
        self.facing = Part(widths[-1], 3 * SNPS, conditions, False)

    def forward(self, z, c, gumbel, temperature):
        """Classes of genotypes."""
        x = z
        for layer in self.chain:
            x = layer(x, c)
            x = x if isinstance(layer, Block) else self.activation(x)
        logits = self.facing(x, c) + gumbel
        return (logits.reshape(-1, SNPS, 3) / temperature).softmax(dim=2).reshape(-1, 3 * SNPS)

    def parameters_in_order(self):
        """All parameters in one list."""
        facing = self.facing.linear.weight.flatten().tolist()
        if self.facing.of_conditions is not None:
            facing += self.facing.of_conditions.weight.flatten().tolist()
        facing += self.facing.linear.bias.tolist()
        return [p for layer in self.chain for p in layer.parameters_in_order()] + facing


class Critic(nn.Module):
    """The critic."""

    def __init__(self, widths, conditions, residual, slope):
        super().__init__()
        self.facing = Part(3 * SNPS, widths[-1], conditions, False)
        self.activation = nn.LeakyReLU(slope)
        self.chain = nn.ModuleList()
        for units, read in reversed(list(zip(widths, widths[1:]))):
            if residual:
                self.chain.append(Block(read, conditions, False, slope))
            self.chain.append(Part(read, units, 0, False))
        self.last = Part(widths[0], 1, 0, False)

    def forward(self, x, c):
        """Judgements."""
        x = self.activation(self.facing(x, c))
        for layer in self.chain:
            x = layer(x, c)
            x = x if isinstance(layer, Block) else self.activation(x)
        return self.last(x, c)[:, 0]

    def parameters_in_order(self):
        """All parameters in one list."""
        out = []
        if self.facing.of_conditions is not None:
            out += self.facing.of_conditions.weight.T.flatten().tolist()
        out += self.facing.linear.bias.tolist()
        out += [p for layer in self.chain for p in layer.parameters_in_order()]
        return out + self.last.parameters_in_order() + self.facing.linear.weight.T.flatten().tolist()


def shares(n, parts):
    """Runs of n rows that are as even as can be, longer ones first."""
    bounds = [0]
    for k in range(parts):
        bounds.append(bounds[-1] + n // parts + (k < n % parts))
    return list(zip(bounds, bounds[1:]))


class Run:
    """One training run."""

    def __init__(self, seed, widths, conditions, residual, training):
        rng = np.random.default_rng(seed)
        self.training, self.slope, self.repeat = training, 0.1, 2
        self.codes = rng.integers(0, 3, (ANIMALS, SNPS))
        self.values = rng.normal(size=(ANIMALS, conditions)).round(6)
        of_layers = (widths, self.repeat * conditions, residual, self.slope)
        self.generator, self.critic = Generator(*of_layers).double(), Critic(*of_layers).double()
        with torch.no_grad():
            for net in (self.generator, self.critic):
                scales = [layer.weight for layer in net.modules() if isinstance(layer, nn.BatchNorm1d)]
                for p in net.parameters():
                    p.copy_(torch.tensor(rng.normal(size=tuple(p.shape)) * (0.4 if p.dim() == 2 else 0.2)))
                for scale in scales:
                    scale += 1
        adam = {"lr": training["learning_rate"], "betas": (training["beta1"], training["beta2"]), "eps": training["epsilon"]}
        self.of_generator = torch.optim.Adam(self.generator.parameters(), **adam)
        self.of_critic = torch.optim.Adam(self.critic.parameters(), **adam)

    def conditions(self, animals):
        """What layers read of the conditions of some animals."""
        return torch.tensor(np.repeat(self.values[animals], self.repeat, axis=1))

    def real(self, animals, step):
        """Classes of real animals."""
        calls = nn.functional.one_hot(torch.tensor(self.codes[animals]), 3).double()
        noise = self.training["smoothing"] * uniforms(SMOOTH, step, len(animals), 3 * SNPS).reshape(calls.shape)
        noise = noise * (1 - calls)
        return (calls * (1 - noise.sum(dim=2, keepdim=True)) + noise).reshape(len(animals), -1)

    def make(self, animals, index, temperature):
        """Classes of generated animals with the conditions of these."""
        z = normals(LATENTS, index, len(animals), LATENT)
        gumbel = -(-uniforms(GUMBEL, index, len(animals), 3 * SNPS).log()).log()
        return self.generator(z, self.conditions(animals), gumbel, temperature)

    def judge(self, animals, step, temperature):
        """A step of the critic: its means of judgements, its penalty, and the mean norm."""
        x, made, c = self.real(animals, step), self.make(animals, step, temperature).detach(), self.conditions(animals)
        share = uniforms(INTERPOLATE, step, len(animals), 1)
        between = (share * x + (1 - share) * made).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between, c).sum(), between, create_graph=True)
        norm = slope.norm(dim=1)
        penalty = self.training["gradient_penalty"] * ((norm - 1) ** 2).mean()
        real, fake = self.critic(x, c).mean(), self.critic(made, c).mean()
        self.of_critic.zero_grad()
        (fake - real + penalty).backward()
        self.of_critic.step()
        return [of.item() for of in (real, fake, penalty, norm.mean())]

    def loss(self, animals, made, temperature):
        """The loss of the generator."""
        given = self.make(animals, MAKER + made, temperature)
        return -self.critic(given, self.conditions(animals)).mean()

    def fool(self, animals, made, temperature):
        """A step of the generator."""
        self.of_generator.zero_grad()
        self.loss(animals, made, temperature).backward()
        self.of_generator.step()

    def learn(self):
        """All epochs: what the critic saw, mean of each."""
        t, seen, step, made = self.training, [], 0, 0
        batches = -(-ANIMALS // t["batch"])
        for epoch in range(t["epochs"]):
            temperature = np.interp(epoch, [0, t["epochs"] - 1], t["temperature"]).item()
            order, stream = list(range(ANIMALS)), Stream(ORDER, epoch)
            for i in range(ANIMALS - 1, 0, -1):
                k = stream.below(i + 1)
                order[i], order[k] = order[k], order[i]
            of_epoch = []
            for start, end in shares(ANIMALS, batches):
                of_epoch.append(self.judge(order[start:end], step, temperature))
                step += 1
                if step % t["critic_steps"] == 0:
                    stream = Stream(CONDITION, MAKER + made)
                    chosen = [stream.below(ANIMALS) for _ in range(ANIMALS // batches)]
                    self.fool(chosen, made, temperature)
                    made += 1
            seen.append(np.mean(of_epoch, axis=0).tolist())
        return seen, made, temperature

    def parameters(self):
        """All parameters of generator and critic."""
        return {"generator": self.generator.parameters_in_order(), "critic": self.critic.parameters_in_order()}

    def written(self, network):
        """All of it."""
        first = self.parameters()
        seen, made, temperature = self.learn()
        last = self.parameters()
        batch = [layer for layer in self.generator.modules() if isinstance(layer, nn.BatchNorm1d)]
        return {
            "seed": SEED,
            "network": network,
            "training": self.training,
            "codes": self.codes.flatten().tolist(),
            "conditions": self.values.flatten().tolist(),
            "animals": ANIMALS,
            "snps": SNPS,
            "first": first,
            "learnt": {
                "seen": seen,
                "last": last,
                "running_mean": [v for layer in batch for v in layer.running_mean.tolist()],
                "running_variance": [v for layer in batch for v in layer.running_var.tolist()],
                "next_loss": self.loss(NEXT, made, temperature).item(),
            },
        }


def run(seed, widths, conditions, residual, training):
    """One training run."""
    made = Run(seed, widths, conditions, residual, training)
    network = {"latent": LATENT, "widths": widths, "negative_slope": made.slope, "residual": residual, "repeat": made.repeat}
    return made.written(network)


def main():
    """Writes the file."""
    training = {
        "batch": 5,
        "epochs": 8,
        "critic_steps": 2,
        "learning_rate": 0.005,
        "beta1": 0.5,
        "beta2": 0.9,
        # Above all rounding: the loss knows no constant in all judgements, so that the gradient of the critic's last
        # bias is an exact 0, whose rounding Adam would make steps of.
        "epsilon": 1e-4,
        "gradient_penalty": 3.0,
        "smoothing": 0.0,
        "temperature": [1.0, 0.4],
        "validation": 0.0,
        "evaluate_every": 8,
        "k": 3,
    }
    runs = [
        run(1, [5], 0, False, training),
        run(2, [4, 6], 2, False, training),
        run(3, [5, 4], 1, True, {**training, "smoothing": 0.2, "critic_steps": 3}),
    ]
    written = {"torch": torch.__version__, "date": str(datetime.date.today()), "runs": runs}
    with open("wgan.json", "w", encoding="ascii") as out:
        json.dump(written, out)
        out.write("\n")


main()
