// Tables that a click on a column's head sorts, a word filters and a click saves. Without scripts they stay as they are.
"use strict";
document.querySelectorAll(".table").forEach((box, place) => {
  const table = box.querySelector("table"), body = table.tBodies[0], rows = [...body.rows];
  if (rows.length < 3) return;
  const text = (row, k) => row.cells[k].textContent.trim();
  // The first number of a cell, such as the value before its standard error.
  const number = cell => {
    const found = cell.replace(/\u2212/g, "-").match(/-?\d+(\.\d+)?/);
    return found ? parseFloat(found[0]) : NaN;
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, k) => {
    const words = head.classList.contains("word") || rows.every(row => Number.isNaN(number(text(row, k)))), button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // Words from A, numbers from the largest at first; a second click turns that round.
      const first = words ? "ascending" : "descending";
      const way = head.getAttribute("aria-sort") === first ? (words ? "descending" : "ascending") : first;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const compared = (a, b) => {
        if (words) return sign * text(a, k).localeCompare(text(b, k), "en", { numeric: true });
        const [x, y] = [number(text(a, k)), number(text(b, k))];
        // What has no number stands last.
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      };
      body.append(...[...rows].sort(compared));
    });
  });
  if (rows.length < 8) return;
  const bar = document.createElement("div"), input = document.createElement("input");
  const save = document.createElement("button"), told = document.createElement("span");
  bar.className = "bar";
  input.type = "search";
  input.placeholder = "filter rows";
  input.setAttribute("aria-label", "filter the rows of this table");
  input.addEventListener("input", () => {
    const word = input.value.trim().toLowerCase();
    rows.forEach(row => { row.hidden = !row.textContent.toLowerCase().includes(word); });
    const shown = rows.filter(row => !row.hidden).length;
    told.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
  });
  save.type = "button";
  save.textContent = "save as TSV";
  save.addEventListener("click", () => {
    const line = row => [...row.cells].map(cell => cell.textContent.trim()).join("\t");
    const shown = [...body.rows].filter(row => !row.hidden);
    const content = [table.tHead.rows[0], ...shown].map(line).join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "text/tab-separated-values" }));
    link.download = `table${place + 1}.tsv`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  bar.append(input, save, told);
  box.before(bar);
});
