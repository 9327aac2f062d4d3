// Sort a table by a click on a column's head: numbers and durations by value, words by letters.
const UNITS = { s: 1, min: 60, h: 3600, d: 86400 };

function sortKey(text) {
  if (text === "" || text === "-") return null;
  const parts = [...text.matchAll(/([\d.]+) (s|min|h|d)(?![a-z])/g)];
  if (parts.length) return parts.reduce((sum, part) => sum + part[1] * UNITS[part[2]], 0);
  const number = text.replace(/,(?=\d{3})/g, "").match(/^[-+]?\d+(\.\d+)?/);
  return number ? Number(number[0]) : text.toLowerCase();
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sort(table, column, head) {
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [sortKey(row.cells[column].textContent.trim()), row]);
  // What has no value stays below, in either order.
  keyed.sort(([a], [b]) =>
    a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b));
  body.append(...keyed.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table")) {
  if (!table.tBodies.length || table.tBodies[0].rows.length < 2) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = [head.title, "sort by this column"].filter(Boolean).join("; ");
    head.removeAttribute("title");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, column, head));
  });
}

// What scrolls sideways can be reached with the keyboard too, once its part is unfolded.
const boxes = new ResizeObserver((changes) => {
  for (const { target } of changes) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
  }
});
for (const box of document.querySelectorAll(".scroll")) boxes.observe(box);
