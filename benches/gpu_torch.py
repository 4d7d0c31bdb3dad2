"""What PyTorch takes for the work of benches/gpu, and what the GPU does at most: JSON, a line for each measurement.

    {"ceiling": "bf16", "per_second": 7.9e14}               operations, or bytes read and written, per second
    {"work": "cuda: Z W, batch 1024, hidden 512", "seconds": 1e-3}    under the name that benches/gpu gives its own

Genotypes lie on the GPU as bytes; rows are gathered and cast for each batch. `cuda` is compared with single precision
(no tf32), `cuda-bf16` with bfloat16, and its dense layers with tf32. Exit code 1 where PyTorch or a GPU is missing."""
import json
import sys
import time

try:
    import torch
except ImportError:
    sys.exit("PyTorch is not installed")
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no GPU")

N, M, BATCH, TILE, TIMES = 50_000, 50_000, 1024, 8192, 10
KINDS = {"cuda": torch.float32, "cuda-bf16": torch.bfloat16}


def seconds(work):
    """Seconds of one of several calls, after one to warm up."""
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(TIMES):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / TIMES


def say(**what):
    print(json.dumps(what), flush=True)


def measure(name, work):
    """Where memory does not suffice, there is no line."""
    try:
        say(work=name, seconds=seconds(work))
    except torch.cuda.OutOfMemoryError as e:
        print(f"{name}: {e}", file=sys.stderr)
    torch.cuda.empty_cache()


def normals(*shape, dtype=torch.float32):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def ceilings():
    def product(name, n, a, b, multiply=torch.matmul):
        say(ceiling=name, per_second=2 * n**3 / seconds(lambda: multiply(a, b)))

    n = 8192
    product("bf16", n, normals(n, n).to(torch.bfloat16), normals(n, n).to(torch.bfloat16))
    torch.backends.cuda.matmul.allow_tf32 = True
    product("tf32", n, normals(n, n), normals(n, n))
    torch.backends.cuda.matmul.allow_tf32 = False
    calls = torch.randint(0, 3, (n, n), dtype=torch.int8, device="cuda")
    product("int8", n, calls, calls.t(), torch._int_mm)
    product("f32", n // 2, normals(n // 2, n // 2), normals(n // 2, n // 2))
    product("f64", n // 2, normals(n // 2, n // 2, dtype=torch.float64), normals(n // 2, n // 2, dtype=torch.float64))


def linear(x):
    """Z V, Z'V, X X' and Z Z' with dense Z."""
    tile = x[:TILE]
    measure(f"cuda: X X' to the host, {TILE} x {TILE} x {M}", lambda: torch._int_mm(tile, tile.t()).cpu())
    z = tile.double()
    measure(f"cuda: Z Z', {TILE} x {TILE} x {M}", lambda: z @ z.t())
    try:
        z = x.double()
    except torch.cuda.OutOfMemoryError as e:
        return print(f"Z in f64: {e}", file=sys.stderr)
    for k in (1, 8, 33):
        v, w = normals(M, k, dtype=torch.float64), normals(N, k, dtype=torch.float64)
        measure(f"cuda: Z V, {N} x {M}, k = {k}", lambda: z @ v)
        measure(f"cuda: Z'V, {N} x {M}, k = {k}", lambda: z.t() @ w)


def layers(x, device, kind):
    """The first layer of a network forward and backward, Adam, and a dense layer."""
    rows = torch.randint(0, N, (BATCH,), device="cuda")
    for h in (512, 1024, 2048, 4096):
        w, d = normals(M, h).to(kind), normals(BATCH, h).to(kind)
        measure(f"{device}: Z W, batch {BATCH}, hidden {h}", lambda: x[rows].to(kind) @ w)
        measure(f"{device}: Z'D, batch {BATCH}, hidden {h}", lambda: x[rows].to(kind).t() @ d)
        weights = normals(M, h).requires_grad_()
        weights.grad = normals(M, h)
        measure(f"{device}: Adam, {M} x {h}", torch.optim.AdamW([weights], fused=True).step)
        a, b = normals(BATCH, h), normals(h, h)
        torch.backends.cuda.matmul.allow_tf32 = device == "cuda-bf16"
        measure(f"{device}: dense, {BATCH} x {h} x {h}", lambda: a @ b)
        torch.backends.cuda.matmul.allow_tf32 = False


def classes(x, device, kind):
    """The first layer of a critic on classes with noise, forward and backward, and Gumbel-softmax."""
    batch, width, h = BATCH // 8, 3 * M, 512
    w, d, dense = normals(width, h).to(kind), normals(3 * batch, h).to(kind), normals(2 * batch, width).to(kind)
    real, logits = x[:batch], normals(batch, M, 3)

    def smooth():
        ones = torch.nn.functional.one_hot(real.long(), 3).to(kind)
        noise = 0.025 * torch.rand(batch, M, 3, device="cuda", dtype=kind) * (1 - ones)
        return (ones * (1 - noise.sum(2, keepdim=True)) + noise).view(batch, width)

    def gumbel():
        noise = -torch.log(-torch.log(torch.rand_like(logits).clamp_min(1e-7)))
        return torch.softmax((logits + noise) / 0.5, 2)

    measure(f"{device}: X W, batch {batch}, hidden {h}", lambda: smooth() @ w)
    measure(f"{device}: [X; Y]' D, batch {batch}, hidden {h}", lambda: torch.cat([smooth(), dense]).t() @ d)
    measure(f"{device}: softmax with noise, {batch} x {width}", gumbel)


with torch.no_grad():
    ceilings()
    genotypes = torch.randint(0, 3, (N, M), dtype=torch.int8, device="cuda")
    for device, kind in KINDS.items():
        layers(genotypes, device, kind)
        classes(genotypes, device, kind)
    linear(genotypes)
