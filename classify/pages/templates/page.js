"use strict";
// Tables are sorted by a click on a column's head; lists are filtered by what is typed, and by kind.
const read = (cell) => {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
};
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  for (const head of heads.filter((cell) => !cell.classList.contains("plot"))) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isDown = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [read(row.cells[head.cellIndex]), row]);
      const compare = (a, b) => (typeof a === typeof b && typeof a === "number" ? a - b : String(a).localeCompare(b));
      rows.sort((one, other) => (isDown ? -1 : 1) * compare(one[0], other[0]));
      table.tBodies[0].append(...rows.map((row) => row[1]));
    });
  }
}
for (const list of document.querySelectorAll("ol.filters")) {
  const items = [...list.children];
  const kinds = [...new Set(items.map((item) => item.dataset.kind).filter(Boolean))];
  const form = document.createElement("form");
  form.className = "filter";
  form.innerHTML = '<label>Only with <input type="search" placeholder="a label, an id, a file"></label>' +
    '<label>of <select><option value="">any kind</option></select></label><output></output>';
  form.addEventListener("submit", (event) => event.preventDefault());
  const select = form.querySelector("select");
  select.append(...kinds.map((kind) => new Option(kind)));
  select.parentElement.hidden = kinds.length < 2;
  const filter = () => {
    const wanted = form.querySelector("input").value.toLowerCase();
    for (const item of items) {
      const isOfKind = !select.value || item.dataset.kind === select.value;
      item.hidden = !(isOfKind && item.textContent.toLowerCase().includes(wanted));
    }
    form.querySelector("output").textContent = `${items.filter((item) => !item.hidden).length} of ${items.length} shown`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("change", filter);
  list.before(form);
}
