// Sorting: a click on a column's name orders the rows, a second click turns the order round. Without script: plain tables.
"use strict";

function key(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.key ?? cell.textContent;
  return text === "" || isNaN(text) ? text : Number(text);
}

function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a === typeof b && typeof a === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sort(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const up = heads[column].ariaSort !== "ascending";
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  const known = rows.filter(([k]) => k !== ""), unknown = rows.filter(([k]) => k === "");  // undefined stays last
  known.sort(([a], [b]) => (up ? 1 : -1) * compare(a, b));
  table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
  heads.forEach((head, i) => head.setAttribute("aria-sort", i !== column ? "none" : up ? "ascending" : "descending"));
}

for (const table of document.querySelectorAll("table.table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(table, column));
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
  });
}
