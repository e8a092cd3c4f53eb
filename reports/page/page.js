// Sorting and filtering of the tables; without it they are plain tables, whole and readable.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  addSorting(table, body, rows);
  if (rows.length > 5) addFilter(table, rows);
}

function addSorting(table, body, rows) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("number");
      const value = (row) => row.cells[column].dataset.value;
      // Cells without a value stay at the end in either direction.
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}

function addFilter(table, rows) {
  const block = document.getElementById(`${table.id}-block`);
  const line = document.createElement("div");
  line.className = "filter";
  const label = document.createElement("label");
  label.htmlFor = `${table.id}-filter`;
  label.textContent = "Show rows that contain";
  const input = document.createElement("input");
  input.type = "search";
  input.id = label.htmlFor;
  input.setAttribute("aria-controls", table.id);
  const count = document.createElement("output");
  count.htmlFor = input.id;
  line.append(label, input, count);
  block.prepend(line);
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", show);
  show();
}
