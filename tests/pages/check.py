#!/usr/bin/env python3
"""The pages that people read, in headless Chromium: `study`'s report and `fidelity`'s.

    python3 tests/pages/check.py GENIALEARN [CHROMIUM]

Makes both with a small herd, and opens each at 1,300 and 390 points of width, in light and dark. A page fails that writes an
error to the console, asks for anything over the network, is wider than its window, has a picture without a text, does not
sort, filter and save its tables, or does not print. With KEEP=FOLDER pages and pictures of them are kept there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

STUDY = """
[simulate]
animals = 400
snps = 800
traits = 9
[[model]]
name = "GBLUP"
[[model]]
name = "RKHS"
kind = "rkhs"
[[model]]
name = "boosting"
kind = "boosting"
rounds = 20
replicates = 1
[[validation]]
scheme = "random"
folds = 3
[[validation]]
scheme = "family"
folds = 3
[bootstrap]
replicates = 100
"""

# Stands before everything else of a page: errors are noted as they come.
FIRST = """<script>
window.wrong = [];
window.addEventListener("error", e => wrong.push("error: " + e.message));
window.addEventListener("unhandledrejection", e => wrong.push("rejection: " + e.reason));
console.error = (...words) => wrong.push("console: " + words.join(" "));
</script>"""

# Stands behind it: does what a reader does, and writes what it found into the page.
LAST = """<script>
addEventListener("load", () => {
  const wrong = window.wrong, expect = (truth, words) => { if (!truth) wrong.push(words); };
  const page = document.documentElement;
  expect(page.scrollWidth <= innerWidth, `the page is ${page.scrollWidth} wide in a window of ${innerWidth}`);
  document.querySelectorAll("img, svg").forEach(picture => {
    const told = picture.closest("[aria-hidden=true]") || picture.getAttribute("alt") || picture.getAttribute("aria-label") ||
      picture.querySelector("title");
    expect(told, "a picture without a text");
  });
  document.querySelectorAll("a[href^='#']").forEach(link =>
    expect(document.getElementById(link.getAttribute("href").slice(1)), "a link to nothing: " + link.getAttribute("href")));
  const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
  expect(new Set(ids).size === ids.length, "an id stands twice");
  let sorted = 0, filtered = 0, saved = 0;
  const number = cell => parseFloat((cell.textContent.replace(/\\u2212/g, "-").match(/-?\\d+(\\.\\d+)?/) || ["NaN"])[0]);
  document.querySelectorAll(".table").forEach(box => {
    const body = box.querySelector("tbody"), rows = () => [...body.rows];
    const count = rows().length;
    box.querySelectorAll("thead button").forEach(button => {
      const head = button.closest("th"), k = head.cellIndex;
      button.click();
      const up = head.getAttribute("aria-sort") === "ascending";
      expect(rows().length === count, "rows are lost by sorting");
      const numbers = rows().map(row => number(row.cells[k])), words = rows().map(row => row.cells[k].textContent.trim());
      sorted += 1;
      if (head.classList.contains("word") || numbers.every(Number.isNaN)) {
        const by = (a, b) => a.localeCompare(b, "en", { numeric: true });
        expect(up && words.every((w, i) => i === 0 || by(words[i - 1], w) <= 0), "words are not sorted: " + button.textContent);
        return;
      }
      const known = numbers.filter(n => !Number.isNaN(n));
      const inOrder = known.every((n, i) => i === 0 || (up ? known[i - 1] <= n : known[i - 1] >= n));
      expect(inOrder, "not sorted: " + button.textContent + ": " + known.join(" "));
      expect(numbers.slice(known.length).every(Number.isNaN), "what has no number does not stand last: " + button.textContent);
    });
    const bar = box.previousElementSibling;
    if (!bar || !bar.classList.contains("bar")) return;
    const input = bar.querySelector("input"), word = rows()[0].cells[0].textContent.trim();
    input.value = word;
    input.dispatchEvent(new Event("input"));
    const shown = rows().filter(row => !row.hidden);
    expect(shown.length > 0 && shown.every(row => row.textContent.includes(word)), "not filtered by " + word);
    const make = URL.createObjectURL;
    let blob = null;
    URL.createObjectURL = b => { blob = b; return make.call(URL, b); };
    bar.querySelector("button").click();
    URL.createObjectURL = make;
    expect(blob && blob.size > word.length, "a table is not saved");
    input.value = "";
    input.dispatchEvent(new Event("input"));
    expect(rows().every(row => !row.hidden), "rows stay hidden");
    filtered += 1;
    saved += blob ? 1 : 0;
  });
  const outside = performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"));
  outside.forEach(name => wrong.push("asks for " + name));
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify({ wrong, sorted, filtered, saved, width: innerWidth,
    tables: document.querySelectorAll(".table").length, pictures: document.querySelectorAll("img, svg").length });
  document.body.append(out);
});
</script>"""


def chromium(program, folder, *options):
    """What the browser writes to standard output."""
    always = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
              "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
              f"--user-data-dir={folder}/browser"]
    run = subprocess.run([program, *always, *options], capture_output=True, text=True, timeout=120)
    if run.returncode:
        sys.exit(f"{program} {' '.join(options)}: {run.returncode}\n{run.stderr[-2000:]}")
    return run.stdout


def check(program, folder, page, sizes):
    """Errors of a page at all sizes."""
    errors = []
    text = page.read_text()
    for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?([^\"'> ]+)", text):
        if not tag.startswith(("data:", "#")):
            errors.append(f"asks for {tag}")
    tried = folder / f"tried-{page.name}"
    # A frame is as narrow as a phone; windows are 500 points wide at least.
    for width in sizes:
        tried.write_text(re.sub(r"(<head[^>]*>)", lambda m: m.group(1) + FIRST, text, count=1) + LAST)
        frame = folder / f"frame-{page.name}"
        frame.write_text(
            f"<!doctype html><body style='margin:0'><iframe id=f src='{tried.name}' width={width} height=900 style='border:0'></iframe>"
            "<script>addEventListener('load', () => { const wait = () => { const found = f.contentDocument.getElementById('found');"
            "if (!found) return setTimeout(wait, 50); const pre = document.createElement('pre'); pre.id = 'all';"
            "pre.textContent = found.textContent; document.body.append(pre); f.remove(); }; wait(); });</script>")
        dom = chromium(program, folder, "--allow-file-access-from-files", "--virtual-time-budget=20000",
                       f"--window-size={max(width, 500)},900", "--dump-dom", frame.as_uri())
        found = re.search(r'<pre id="all">(.*?)</pre>', dom, re.S)
        if not found:
            errors.append(f"at {width}: nothing was found out; scripts did not run")
            continue
        entities = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
        found = json.loads(re.sub("|".join(entities), lambda m: entities[m.group()], found.group(1)))
        if found["width"] != width:
            errors.append(f"at {width}: the window was {found['width']} wide")
        for what in ("sorted", "pictures"):
            if not found[what]:
                errors.append(f"at {width}: nothing is {what}")
        errors += [f"at {width}: {wrong}" for wrong in found["wrong"]]
        print(f"{page.name} at {width}: {found['tables']} tables, {found['sorted']} columns sorted, "
              f"{found['filtered']} filtered and {found['saved']} saved, {found['pictures']} pictures")
    printed = folder / f"{page.stem}.pdf"
    chromium(program, folder, f"--print-to-pdf={printed}", page.as_uri())
    pdf = printed.read_bytes() if printed.exists() else b""
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))
    if not pdf.startswith(b"%PDF") or not pages:
        errors.append("it does not print")
    print(f"{page.name}: printed on {pages} pages")
    return errors


def main():
    genialearn = str(Path(sys.argv[1]).resolve())
    browser = sys.argv[2] if len(sys.argv) > 2 else "chromium"
    folder = Path(tempfile.mkdtemp(prefix="genialearn-pages-"))
    run = lambda *words: subprocess.run([genialearn, *words, "--quiet", "--force"], cwd=folder, check=True)
    (folder / "study.toml").write_text(STUDY)
    run("study", "study.toml", "--out", "study")
    run("simulate", "--animals", "300", "--snps", "600", "--out", "real.h5", "--pheno", "p.tsv", "--seed", "2")
    run("train", "mosaic", "real.h5", "--out", "mosaic.h5")
    run("generate", "mosaic.h5", "--animals", "300", "--out", "synthetic.h5")
    run("fidelity", "real.h5", "synthetic.h5", "--out", "fidelity")
    errors = []
    for page in (folder / "study" / "report.html", folder / "fidelity" / "report.html"):
        named = page.rename(folder / f"{page.parent.name}.html")
        errors += [f"{named.name}: {error}" for error in check(browser, folder, named, (1300, 390))]
        if keep := os.environ.get("KEEP"):
            Path(keep).mkdir(parents=True, exist_ok=True)
            shutil.copy(named, keep)
            for width in (1300, 500):
                chromium(browser, folder, f"--window-size={width},1600",
                         f"--screenshot={Path(keep).resolve()}/{named.stem}-{width}.png", named.as_uri())
    if errors:
        sys.exit("\n".join(errors) + f"\nthe pages stand in {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
