#!/usr/bin/env python3
"""The documents: every link leads somewhere, and docs/start.md does what it says.

    python3 tests/docs/check.py [GENIALEARN]

Links to files and to headings of all Markdown files are followed, without the network. With the program, all blocks marked `sh` of docs/start.md are
run one after another in an empty folder, as a reader would type them, and the files that the page names must be there.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def anchors(path):
    """Names of the headings of a page, as GitHub and mdBook make them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    names = set()
    for heading in re.findall(r"^#+ +(.*)$", text, re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        names.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return names


def broken_links():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True)
    pages = [ROOT / name for name in listed.stdout.split()] or sorted(ROOT.glob("**/*.md"))
    errors, count = [], 0
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            name, _, heading = target.partition("#")
            there = (page.parent / name).resolve() if name else page
            place = f"{page.relative_to(ROOT)}: {target}"
            if not there.exists():
                errors.append(f"{place}: there is no such file")
            elif heading and there.suffix == ".md" and heading not in anchors(there):
                errors.append(f"{place}: there is no such heading")
    summary = (ROOT / "docs" / "SUMMARY.md").read_text()
    left_out = [page.name for page in pages if page.parent == ROOT / "docs" and f"({page.name})" not in summary]
    errors += [f"docs/SUMMARY.md: {name} is left out" for name in left_out if name != "SUMMARY.md"]
    print(f"documents: {count} links in {len(pages)} pages")
    return errors


def run_page(program):
    page = (ROOT / "docs" / "start.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    expected = ["report/report.html", "variances.variances.tsv", "ebv.ebv.tsv", "ebv.model.h5", "two/report.html"]
    with tempfile.TemporaryDirectory(prefix="genialearn-start-") as folder:
        env = dict(os.environ, PATH=f"{program.parent}:{os.environ['PATH']}")
        # mpirun in containers: as root, with as many ranks as the page says.
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1")
        for number, block in enumerate(blocks):
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=env, capture_output=True, text=True)
            if done.returncode:
                return [f"docs/start.md, block {number + 1}: code {done.returncode}\n{block}\n{done.stderr[-2000:]}"]
        missing = [name for name in expected if not (Path(folder) / name).exists()]
        tables = [(Path(folder) / out / "summary.tsv").read_bytes() for out in ("report", "two")]
    print(f"documents: {len(blocks)} blocks of docs/start.md ran")
    errors = [f"docs/start.md: {name} was not made" for name in missing]
    return errors + ([] if tables[0] == tables[1] else ["docs/start.md: the tables of two ranks are others"])


def main():
    errors = broken_links()
    if len(sys.argv) > 1:
        errors += run_page(Path(sys.argv[1]).resolve())
    if errors:
        sys.exit("\n".join(errors))


if __name__ == "__main__":
    main()
