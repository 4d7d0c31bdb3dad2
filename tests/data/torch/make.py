#!/usr/bin/env python3
"""Writes perceptron.json: training runs of PyTorch in f64, to which tests/torch.rs holds the networks.

Needs PyTorch and NumPy; the tests need neither. Run it in its own directory: `python3 make.py`.

Conventions that the runs are posed in:
- squared loss d^2/2 and Huber's loss, sum over the records that are known, times their weights, by the sum of these
  weights;
- weights are (inputs, units), PyTorch's are (units, inputs): all parameters are one list, layer by layer, weight,
  bias (none before batch normalisation), shift, scale;
- decay and penalty are the weights' alone;
- one step on all animals at a time; cosine decay from the first step's learning rate to the last's.
"""

import datetime
import json

import numpy as np
import torch
from torch import nn

ANIMALS, SNPS, TRAITS, STEPS = 17, 12, 2, 15
HIDDEN = [6, 4]


def layers(normalisation, slope):
    """Linear, normalisation and activation of each hidden layer, and a linear head."""
    out, read = [], SNPS
    for units in HIDDEN:
        out.append(nn.Linear(read, units, bias=normalisation != "batch"))
        out.append(nn.BatchNorm1d(units) if normalisation == "batch" else nn.LayerNorm(units))
        out.append(nn.GELU(approximate="tanh") if slope is None else nn.LeakyReLU(slope))
        read = units
    return nn.Sequential(*out, nn.Linear(read, TRAITS)).double()


def parameters(net):
    """All parameters in one list."""
    out = []
    for layer in net:
        if isinstance(layer, nn.Linear):
            out += layer.weight.T.flatten().tolist()
            out += [] if layer.bias is None else layer.bias.tolist()
        elif isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm)):
            out += layer.bias.tolist() + layer.weight.tolist()
    return out


def run(seed, normalisation, slope, huber, weighted, l2, weight_decay):
    """One training run."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (ANIMALS, SNPS))
    coding = np.sort(rng.normal(size=(SNPS, 4)), axis=1)
    coding[:, 3] = 0
    x = torch.tensor(coding[np.arange(SNPS), codes])
    y = rng.normal(size=(ANIMALS, TRAITS))
    known = rng.random((ANIMALS, TRAITS)) > 0.25
    weights = rng.uniform(0.5, 2, (ANIMALS, TRAITS)) if weighted else np.ones((ANIMALS, TRAITS))
    net = layers(normalisation, slope)
    with torch.no_grad():
        # Scales near 1 keep all units on both sides of the activation's bend. A unit on one side alone is linear: batch
        # normalisation behind it makes the gradient of its shift an exact 0, whose rounding Adam would make steps of.
        scales = [layer.weight for layer in net if isinstance(layer, (nn.BatchNorm1d, nn.LayerNorm))]
        for p in net.parameters():
            p.copy_(torch.tensor(rng.normal(size=tuple(p.shape)) * (0.4 if p.dim() == 2 else 0.2)))
        for scale in scales:
            scale += 1
    first = parameters(net)
    matrices = [p for p in net.parameters() if p.dim() == 2]
    vectors = [p for p in net.parameters() if p.dim() == 1]
    rate, last_learning_rate = 0.02, 0.1
    # Adam's own `weight_decay` is an L2 penalty's gradient, AdamW's is decoupled.
    kind, decay = (torch.optim.AdamW, weight_decay) if l2 == 0 else (torch.optim.Adam, 2 * l2)
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    adam = kind(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS - 1, eta_min=last_learning_rate * rate)
    target, w = torch.tensor(np.where(known, y, 0)), torch.tensor(weights * known)
    losses = []
    for _ in range(STEPS):
        adam.zero_grad()
        given = net(x)
        if huber is None:
            each = nn.functional.mse_loss(given, target, reduction="none") / 2
        else:
            each = nn.functional.huber_loss(given, target, reduction="none", delta=huber)
        loss = (each * w).sum() / w.sum()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(loss.item())
    batch = [layer for layer in net if isinstance(layer, nn.BatchNorm1d)]
    return {
        "normalisation": normalisation,
        "hidden": HIDDEN,
        "negative_slope": slope,
        "huber": huber,
        "learning_rate": rate,
        "last_learning_rate": last_learning_rate,
        "l2": l2,
        "weight_decay": weight_decay,
        "traits": TRAITS,
        "codes": codes.flatten().tolist(),
        "coding": coding.tolist(),
        "y": [v if k else None for v, k in zip(y.flatten().tolist(), known.flatten())],
        "weights": weights.flatten().tolist() if weighted else None,
        "first": first,
        "losses": losses,
        "last": parameters(net),
        "running_mean": [v for layer in batch for v in layer.running_mean.tolist()],
        "running_variance": [v for layer in batch for v in layer.running_var.tolist()],
    }


def main():
    """Writes the file."""
    runs = [
        run(1, "batch", 0.1, None, False, 0.0, 0.5),
        run(2, "layer", None, 0.5, True, 0.02, 0.0),
    ]
    written = {"torch": torch.__version__, "date": str(datetime.date.today()), "runs": runs}
    with open("perceptron.json", "w", encoding="ascii") as out:
        json.dump(written, out)
        out.write("\n")


main()
