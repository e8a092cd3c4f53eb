// Sorting and filtering of the tables; without it they are plain tables, whole and readable.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  addSorting(table, body, rows);
  if (rows.length > 5) addFilter(table, rows);
}

// A cell is sorted by its number, if it has one, else by what is read; a dash stands for nothing.
function sortValue(cell) {
  return cell.dataset.value ?? (cell.textContent === "\u2013" ? "" : cell.textContent);
}

// A row is shown where no filter hides it: that of its table ("words") and that of the page ("page").
function hide(row, reason, hidden) {
  row[`hidden_${reason}`] = hidden;
  row.hidden = Boolean(row.hidden_words || row.hidden_page);
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
      const value = (row) => sortValue(row.cells[column]);
      // Cells without a value stay at the end in either direction.
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      body.append(...rows);
      table.dispatchEvent(new CustomEvent("sorted", { bubbles: true, detail: { column, down } }));
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
    for (const row of rows) {
      const text = words.length ? row.textContent.toLowerCase() : "";
      hide(row, "words", !words.every((word) => text.includes(word)));
    }
    tell();
  };
  const tell = () => { count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`; };
  input.addEventListener("input", show);
  table.addEventListener("filtered", tell);
  tell();
}
