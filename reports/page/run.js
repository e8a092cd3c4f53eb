// Filters of the whole page, a link to each state, columns to choose, copies of tables; without it all is there.
"use strict";

const known = JSON.parse(document.getElementById("methods").textContent);
const choices = new Map();

makeFilters();
for (const table of document.querySelectorAll("table.sortable")) addTools(table);
for (const cell of document.querySelectorAll(".matrix td[data-m]")) makeButton(cell);
window.addEventListener("hashchange", restore);
restore();

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function makeFilters() {
  const bar = document.getElementById("filters");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Filter the whole page");
  known.dimensions.forEach((dimension, place) => {
    if (!dimension.chosen) return;
    const select = element("select", { id: `choose-${dimension.name}` }, element("option", { value: "" }, "all"));
    dimension.values.forEach((value, code) => select.append(element("option", { value: String(code) }, value)));
    select.addEventListener("change", () => { apply(); remember(); });
    bar.append(element("label", { htmlFor: select.id }, `${dimension.label} `, select));
    choices.set(dimension.name, { select, place, dimension });
  });
  const reset = element("button", { type: "button", id: "reset" }, "Show all");
  reset.addEventListener("click", () => { choose({}); });
  const link = element("button", { type: "button", id: "link" }, "Copy link");
  const said = element("output", { id: "filter-said" });
  link.addEventListener("click", async () => { said.textContent = (await copy(location.href)) ? "Link copied." : "Copying failed."; });
  bar.append(reset, link, said);
  bar.hidden = !choices.size;
}

function choose(wanted) {
  for (const [name, { select }] of choices) select.value = wanted[name] ?? "";
  apply();
  remember();
}

// What is chosen now, by the name of the dimension: the index of a value.
function chosen() {
  return Object.fromEntries([...choices].filter(([, { select }]) => select.value !== "").map(([name, { select }]) => [name, select.value]));
}

function apply() {
  const wanted = Object.entries(chosen()).map(([name, code]) => [choices.get(name).place, Number(code)]);
  const fitting = (asked) => known.methods.map((method) => asked.every(([place, code]) => method[place] === code));
  const fits = fitting(wanted);
  const shows = (each, among = fits) => !wanted.length || each.dataset.m.split(" ").some((place) => among[place]);
  // The picture is of networks without adaptation on a task's first stream: neither choice leaves it empty.
  const others = ["adapter", "stream"].map((name) => choices.get(name)?.place);
  const networks = fitting(wanted.filter(([place]) => !others.includes(place)));
  for (const row of document.querySelectorAll("tr[data-m]")) hide(row, "page", !shows(row, row.closest(".hero") ? networks : fits));
  for (const body of document.querySelectorAll(".hero tbody")) body.hidden = ![...body.rows].some((row) => row.dataset.m && !row.hidden);
  for (const cell of document.querySelectorAll(".matrix td[data-m]")) {
    cell.classList.toggle("off", !shows(cell));
    cell.firstElementChild.setAttribute("aria-pressed", String(wanted.length > 0 && shows(cell)));
  }
  showParts();
  const lots = showLots(shows, wanted.length > 0);
  let count = 0;
  for (const table of document.querySelectorAll("table.sortable")) {
    table.dispatchEvent(new CustomEvent("filtered"));
    const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
    count += shown;
    const number = table.closest("details")?.querySelector(".rows");
    if (number) number.textContent = shown === table.tBodies[0].rows.length ? shown : `${shown} of ${table.tBodies[0].rows.length}`;
  }
  document.getElementById("reset").disabled = !wanted.length;
  const said = document.getElementById("filter-said");
  said.textContent = wanted.length ? `${count} rows of all tables; ${known.note}. ` : "";
  const beside = document.getElementById("to-images");
  beside?.replaceChildren();
  if (wanted.length && lots.length) {
    const link = () => element("a", { href: `#${lots.length > 1 ? "images" : lots[0]}` }, "Images that are lost");
    said.append(link());
    beside?.append(link());
  }
}

// Of the images those of the chosen networks, unfolded where it is one; returns where links to what is shown lead.
function showLots(shows, filtered) {
  const all = [...document.querySelectorAll(".lot")];
  for (const lot of all) lot.hidden = !shows(lot);
  const shown = all.filter((lot) => !lot.hidden);
  for (const group of document.querySelectorAll(".lots > .more")) {
    const own = [...group.querySelectorAll(".lot")].filter((lot) => !lot.hidden);
    group.hidden = !own.length;
    group.querySelector(".rows").textContent = own.length;
  }
  if (filtered && shown.length === 1) openFor(shown[0].querySelector(".parts").id);
  const none = document.getElementById("no-images");
  if (none) none.hidden = shown.length > 0;
  return shown.map((lot) => lot.querySelector(".parts").id);
}

// Text and matrices of one task or stream go where another is chosen.
function showParts() {
  const named = (name) => { const each = choices.get(name); return each && each.select.value !== "" ? each.dimension.values[each.select.value] : null; };
  const task = named("task");
  const stream = named("stream");
  for (const part of document.querySelectorAll("div[data-task], details[data-task]")) {
    part.hidden = task !== null && part.dataset.task !== task;
    if (part.dataset.stream && stream !== null) part.open = part.dataset.stream === stream;
  }
}

function makeButton(cell) {
  const button = element("button", { type: "button" }, ...(cell.querySelector("a") ?? cell).childNodes);
  button.title = cell.title;
  cell.removeAttribute("title");
  cell.replaceChildren(button);
  button.addEventListener("click", () => {
    const method = known.methods[cell.dataset.m];
    const wanted = Object.fromEntries([...choices].filter(([name]) => name !== "bits").map(([name, { place }]) => [name, String(method[place])]));
    const same = Object.entries(wanted).every(([name, code]) => chosen()[name] === code);
    choose(same ? {} : wanted);
  });
}

function addTools(table) {
  const block = document.getElementById(`${table.id}-block`);
  const heads = [...table.tHead.rows[0].cells];
  const list = element("div", { className: "columns" });
  heads.forEach((head, column) => {
    if (!column) return;
    const box = element("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => { showColumn(table, column, box.checked); remember(); });
    list.append(element("label", {}, box, ` ${head.textContent}`));
  });
  const said = element("output", {});
  const tools = element("div", { className: "tools" }, element("details", {}, element("summary", {}, "Columns"), list));
  for (const [kind, write] of [["CSV", asCsv], ["LaTeX", asLatex], ["Markdown", asMarkdown]]) {
    const button = element("button", { type: "button" }, `Copy as ${kind}`);
    button.addEventListener("click", async () => {
      const rows = shownCells(table);
      said.textContent = (await copy(write(rows, numeric(table)))) ? `${rows.length - 1} rows copied.` : "Copying failed.";
    });
    tools.append(button);
  }
  tools.append(said);
  block.prepend(tools);
  table.addEventListener("sorted", remember);
}

function showColumn(table, column, shown) {
  for (const row of [...table.tHead.rows, ...table.tBodies[0].rows]) row.cells[column].hidden = !shown;
}

function shownCells(table) {
  const rows = [table.tHead.rows[0], ...table.tBodies[0].rows].filter((row) => !row.hidden);
  return rows.map((row) => [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.textContent.replace(/\s+/g, " ").trim()));
}

function numeric(table) {
  return [...table.tHead.rows[0].cells].filter((cell) => !cell.hidden).map((cell) => cell.classList.contains("number"));
}

function asCsv(rows) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => row.map((text) => quoted(text.replaceAll("\u2212", "-"))).join(",")).join("\n") + "\n";
}

function asMarkdown(rows, numbers) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const escaped = rows.map((row) => row.map((text) => text.replace(/[\\|]/g, "\\$&")));
  return [line(escaped[0]), line(numbers.map((each) => (each ? "---:" : "---"))), ...escaped.slice(1).map(line)].join("\n") + "\n";
}

function asLatex(rows, numbers) {
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\u2212": "$-$", "\u2013": "--", "<": "$<$", ">": "$>$" };
  const escape = (text) => text.replace(/[\\~^\u2212\u2013<>&%$#_{}]/g, (each) => special[each] ?? `\\${each}`);
  const lines = rows.map((row) => `${row.map(escape).join(" & ")} \\\\`);
  const align = numbers.map((each) => (each ? "r" : "l")).join("");
  return [`\\begin{tabular}{${align}}`, "\\toprule", lines[0], "\\midrule", ...lines.slice(1), "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// The state of the page as it stands in its address: choices by value, sorted and hidden columns by place.
function remember() {
  const state = new URLSearchParams();
  for (const [name, code] of Object.entries(chosen())) state.set(name, choices.get(name).dimension.values[code]);
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const order = head.getAttribute("aria-sort");
      if (order !== "none") state.set("sort", [...state.get("sort")?.split(",") ?? [], `${table.id}.${column}.${order}`].join(","));
      if (head.hidden) state.set("hide", [...state.get("hide")?.split(",") ?? [], `${table.id}.${column}`].join(","));
    });
  }
  history.replaceState(null, "", `#${state}`);
}

function restore() {
  const text = location.hash.slice(1);
  if (!text.includes("=")) {
    openFor(text);
    apply();
    return;
  }
  const state = new URLSearchParams(text);
  for (const [name, { select, dimension }] of choices) {
    const code = dimension.values.indexOf(state.get(name) ?? "");
    select.value = code < 0 ? "" : String(code);
  }
  const columns = (key) => (state.get(key) ?? "").split(",").filter(Boolean).map((each) => each.split("."));
  for (const [id, column, order] of columns("sort")) {
    const head = document.getElementById(id)?.tHead?.rows[0].cells[column];
    for (let turn = 0; head && turn < 2 && head.getAttribute("aria-sort") !== order; turn += 1) head.querySelector("button").click();
  }
  for (const [id, column] of columns("hide")) {
    const box = document.getElementById(`${id}-block`)?.querySelectorAll(".columns input")[column - 1];
    if (box) { box.checked = false; showColumn(document.getElementById(id), Number(column), false); }
  }
  apply();
}

// A link to a folded place opens what holds it.
function openFor(id) {
  for (let each = document.getElementById(id); each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
}
