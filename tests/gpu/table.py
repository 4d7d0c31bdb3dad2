#!/usr/bin/env python3
"""The tables of benches/results/gpu.md from what first_day.py wrote: `python3 table.py RESULTS.jsonl > gpu.md`."""
import json
import sys


def table(title, head, rows):
    """A section with a table; one sentence where there are no rows."""
    print(f"\n## {title}\n")
    if not rows:
        return print("Not measured.")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |")


def micro(seconds):
    return f"{seconds * 1e6:,.1f}" if seconds else ""


def percent(part, whole):
    return f"{100 * part / whole:.0f} %" if part and whole else ""


def speed(line):
    """Operations per second, or bytes where memory is what was measured."""
    if line["ceiling"] in ("copy", "download"):
        return f"{line['per_second'] / 1e9:,.1f} GB/s"
    unit = "TOP/s" if line["ceiling"] == "int8" else "TFLOP/s"
    return f"{line['per_second'] / 1e12:,.1f} {unit}"


def short(value):
    """Two digits of a number; what is none stays."""
    return f"{value:.1e}" if isinstance(value, float) and value else value


def found(line):
    """How a check went: its number, or why there is none."""
    if "skipped" in line:
        return f"not run: {line['skipped']}"
    return short(line.get("worst", line.get("why", "")))


def verdict(line):
    return "" if "skipped" in line else "yes" if line["ok"] else "**no**"


def machine(lines):
    print("# Kernels and program on a GPU\n")
    for line in lines:
        if line.get("gpu"):
            gpu = line["gpu"]
            print(f"{gpu['name']}, {gpu['memory.total']}, driver {gpu['driver_version']}, compute capability {gpu['compute_cap']}.")
        if "host" in line:
            print(f"{line['host']}; {line['system']}; {line['program']}; {line['date']}.")
        if "pytorch" in line:
            print(f"PyTorch {line['pytorch']}.")
    print("\n    make gpu-bundle, then on the machine: python3 tests/gpu/first_day.py OUT BUNDLE")


def tests(lines):
    """How many tests passed, and each that did not."""
    of = [line for line in lines if "test" in line and "under" not in line]
    passed = sum(line["ok"] for line in of)
    others = [(line["test"], "not run: " + line["skipped"] if "skipped" in line else "**failed**") for line in of if not line["ok"]]
    again = [(f"{line['test']}, alone, {line['under']}", verdict(line) or found(line)) for line in lines if "under" in line]
    table("Tests of the backends", ["test", "passed"], ([(f"{passed} of {len(of)}", "yes")] if of else []) + others + again)


def kernel(line):
    bound, torch, own = line.get("bound"), line.get("torch"), line["seconds"]
    ratio = f"{own / torch:.2f}" if torch else ""
    return [line["kernel"], micro(own), micro(bound), line.get("by") or "", percent(bound, own), micro(torch), ratio]


def program(line):
    phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in line.get("phases", {}).items())
    name = line.get("program") or f"train mlp, --exchange {line['exchange']}"
    return [name, line.get("device", "cuda"), line.get("ranks", 1), f"{line['seconds']:.2f}", phases, verdict(line) or found(line)]


def main():
    with open(sys.argv[1]) as file:
        lines = [json.loads(line) for line in file]

    def having(*keys):
        return [line for line in lines if any(key in line for key in keys)]

    machine(lines)
    table("Measured ceilings", ["what", "at most"], [(line["ceiling"], speed(line)) for line in having("ceiling")])
    tests(lines)
    table("Errors of long products beside f64", ["product", "largest error / root mean square", "limit", "within"],
          [(line["error"], short(line["value"]), short(line["limit"]), verdict(line)) for line in having("error")])
    table("Times of kernels", ["kernel", "us", "bound, us", "by", "share", "PyTorch, us", "ours / PyTorch"],
          [kernel(line) for line in having("kernel")])
    runs = [line for line in having("program", "exchange") if "host" not in line and "skipped" not in line]
    table("The program", ["command", "device", "ranks", "s", "phases, s", "well"], [program(line) for line in runs])
    table("The GPU beside the processor, ranks beside one process", ["results of", "largest difference", "limit", "within"],
          [(line["comparison"], found(line), short(line.get("limit", "")), verdict(line)) for line in having("comparison")])
    table("Counters", ["kernel", "counter", "value", "unit"],
          [(line["of"], line["counter"], line["value"], line["unit"]) for line in having("counter")])
    bad = [line for line in lines if not line["ok"]]
    table("Failed or not run", ["step", "what", "why"], [why(line) for line in bad])


def why(line):
    keys = ("test", "under", "comparison", "program", "device", "exchange", "ranks", "error")
    what = ", ".join(str(line[key]) for key in keys if key in line)
    reason = f"not run: {line['skipped']}" if "skipped" in line else f"{line.get('why', 'failed')} {line.get('tail', '')}"
    return line["step"], what, reason.replace("\n", " ")


if __name__ == "__main__":
    main()
