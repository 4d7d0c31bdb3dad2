"""What PyTorch takes for the work of benches/gpu.rs: genotypes as bytes on the card, rows gathered and cast to bfloat16
for each batch, dense products, fused Adam. Run by that bench; exit code 1 where PyTorch or a card is missing."""
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(1)
if not torch.cuda.is_available():
    sys.exit(1)

n, m, batch, times = 50_000, 50_000, 1024, 20


def line(what, work):
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    print(f"PyTorch {torch.__version__}: {what:<40} {(time.perf_counter() - start) / times * 1e6:10.1f} us")


x = torch.randint(0, 3, (n, m), dtype=torch.int8, device="cuda")
rows = torch.randint(0, n, (batch,), device="cuda")
line("gather and cast", lambda: x[rows].to(torch.bfloat16))
for h in (512, 1024, 2048, 4096):
    w = torch.randn(m, h, device="cuda", requires_grad=True)
    half, d = w.detach().to(torch.bfloat16), torch.randn(batch, h, device="cuda", dtype=torch.bfloat16)
    line(f"Z W with gather, hidden {h}", lambda: x[rows].to(torch.bfloat16) @ half)
    line(f"Z'D with gather, hidden {h}", lambda: x[rows].to(torch.bfloat16).T @ d)
    w.grad = torch.randn_like(w)
    adam = torch.optim.AdamW([w], fused=True)
    line(f"fused AdamW, {m} x {h}", adam.step)
    a, b = torch.randn(batch, h, device="cuda"), torch.randn(h, h, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = True
    line(f"dense tf32 {batch} x {h} x {h}", lambda: a @ b)
