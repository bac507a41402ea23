// SPDX-License-Identifier: Apache-2.0
// Tables that sort by a click upon a column's title, and the one of all processes.

const PAGE = 50;

// Cells with data-value sort by that number, others by their text; empty ones come last.
Z.openTables = function () {
  for (const table of /** @type {NodeListOf<HTMLTableElement>} */ (document.querySelectorAll("table.sortable"))) {
    for (const button of table.querySelectorAll("thead button")) {
      button.addEventListener("click", () => {
        const head = headOf(button);
        const down = direction(table, head);
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => ({ row, key: value(row.cells[head.cellIndex]) }));
        rows.sort((one, two) => compare(one.key, two.key, down));
        body.append(...rows.map(({ row }) => row));
      });
    }
  }
  openProcesses();
};

const headOf = (/** @type {Element} */ button) => /** @type {HTMLTableCellElement} */ (button.closest("th"));

/** @param {HTMLTableElement} table @param {HTMLTableCellElement} head */
function direction(table, head) {
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const each of table.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  return down;
}

/** @param {HTMLTableCellElement} cell */
function value(cell) {
  if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  return cell.textContent.trim().toLowerCase() || null;
}

/** @typedef {string | number | null} Value */
/** @param {Value} one @param {Value} two @param {boolean} down */
function compare(one, two, down) {
  if (one === null || two === null) return one === two ? 0 : one === null ? 1 : -1;
  const result = one < two ? -1 : one > two ? 1 : 0;
  return down ? -result : result;
}

// --- all processes: what the timeline shows, for those who read rather than look ---

/** @type {HTMLTableElement} */
let table;
/** @type {Lane[]} */
let shown = []; // lanes, sorted and filtered
let page = 0;
/** @type {[number, boolean] | null} column, down */
let sorting = null;

/** @type {((i: Lane) => Value)[]} */
const COLUMNS = [
  (i) => Z.d.lives.pid[i],
  (i) => Z.text(Z.d.lives.command[i])?.toLowerCase() ?? null,
  (i) => Z.site(Z.d.lives.forkSite[i]),
  (i) => Z.d.lives.fork[i],
  (i) => Z.text(Z.d.lives.ended[i]),
  (i) => Z.interval(i),
  (i) => Z.reaperWords(i),
  (i) => Z.callWords(i),
];

function openProcesses() {
  table = document.getElementById("processes");
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => {
      const head = headOf(button);
      sorting = [head.cellIndex, direction(table, head)];
      page = 0;
      arrange();
    });
  }
  document.getElementById("page-back").addEventListener("click", () => turn(-1));
  document.getElementById("page-on").addEventListener("click", () => turn(1));
  Z.filterTable(null);
}

Z.filterTable = function (matches) {
  page = 0;
  shown = matches ? [...matches] : Array.from({ length: Z.count }, (_, i) => i);
  arrange();
};

function arrange() {
  if (sorting) {
    const [column, down] = sorting;
    const keys = new Map(shown.map((i) => [i, COLUMNS[column](i)]));
    shown.sort((one, two) => compare(keys.get(one) ?? null, keys.get(two) ?? null, down) || one - two);
  }
  fill();
}

/** @param {number} by */
function turn(by) {
  page = Math.min(Math.max(page + by, 0), Math.max(Math.ceil(shown.length / PAGE) - 1, 0));
  fill();
}

function fill() {
  const part = shown.slice(page * PAGE, (page + 1) * PAGE);
  table.tBodies[0].replaceChildren(...part.map(row));
  const pages = Math.max(Math.ceil(shown.length / PAGE), 1);
  document.getElementById("page").textContent = `${shown.length} processes, page ${page + 1} of ${pages}`;
  document.getElementById("page-back").disabled = page === 0;
  document.getElementById("page-on").disabled = page >= pages - 1;
}

/** @param {Lane} i */
function row(i) {
  const l = Z.d.lives;
  const made = Z.element("tr");
  const head = made.appendChild(Z.element("th"));
  head.scope = "row";
  const button = head.appendChild(Z.element("button", "link", Z.isShared(i) ? "together" : l.pid[i] || "outside"));
  button.type = "button";
  button.title = "Show in the timeline";
  button.addEventListener("click", () => Z.showLane(i));
  const bad = (Z.interval(i) ?? -1) >= Z.BRIEF ? "bad" : "";
  for (const [text, cls] of [
    [Z.text(l.command[i]) ?? "", "command"],
    [Z.site(l.forkSite[i]) || "-", "site"],
    [Z.instant(l.fork[i]), "number"],
    [Z.text(l.ended[i]) || "-", ""],
    [Z.intervalWords(i), "number " + bad],
    [Z.reaperWords(i), ""],
    [Z.callWords(i) || "-", ""],
  ])
    made.appendChild(Z.element("td", cls)).appendChild(Z.element("div", "", text));
  return made;
}
