// SPDX-License-Identifier: Apache-2.0
// Search by PID, command, line, call, state: every word must be found.

Z.matches = null;
/** @type {Lane[]} */
let order = [];
/** @type {string[] | null} */
let hay = null;

Z.openSearch = function () {
  const field = document.getElementById("query");
  let waiting = 0;
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => Z.search(field.value), 80);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(waiting);
      Z.search(field.value);
      Z.nextMatch(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      field.value = "";
      Z.search("");
    }
  });
  document.getElementById("next").addEventListener("click", () => Z.nextMatch(1));
  document.getElementById("previous").addEventListener("click", () => Z.nextMatch(-1));
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("button[data-query]"))) {
    button.addEventListener("click", () => {
      field.value = button.dataset.query ?? "";
      Z.search(field.value);
      if (order.length) Z.showLane(order[0]);
    });
  }
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("button[data-lane]"))) {
    button.addEventListener("click", () => Z.showLane(Number(button.dataset.lane)));
  }
};

// All words about a lane that it is found by, made when the first search asks.
/** @param {Lane} i */
function words(i) {
  const l = Z.d.lives;
  const long = (Z.interval(i) ?? -1) >= Z.BRIEF ? "zombie" : "";
  const parts = [l.pid[i], l.nspid[i] || "", Z.text(l.command[i]), Z.text(l.comm[i]), Z.text(l.ended[i]), long, Z.state(i)];
  for (const number of [l.forkSite[i], l.reapSite[i]]) {
    const frame = Z.frame(number);
    if (frame) parts.push(frame.file + ":" + frame.line, frame.fn);
  }
  parts.push(Z.text(l.kind[i]), Z.text(l.call[i]), Z.text(l.reaper[i]), Z.text(l.above[i]), l.flags[i] & 4 ? "orphaned" : "");
  return parts.join("\n").toLowerCase();
}

Z.search = function (query) {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  const count = document.getElementById("found");
  order = [];
  if (wanted.length) {
    const all = (hay ??= Array.from({ length: Z.count }, (_, i) => words(i)));
    for (let i = 0; i < Z.count; i++) if (wanted.every((word) => found(all[i], word))) order.push(i);
  }
  Z.matches = wanted.length ? new Set(order) : null;
  count.textContent = wanted.length ? `${order.length} of ${Z.count}` : "";
  Z.filterTable(Z.matches);
  Z.redraw();
};

// A number is a PID, or a line's: whole, not a part of another.
/** @param {string} text @param {string} word */
function found(text, word) {
  if (!/^\d+$/.test(word)) return text.includes(word);
  return new RegExp(`(^|\\D)${word}(\\D|$)`, "m").test(text);
}

Z.nextMatch = function (by) {
  if (!order.length) return;
  const here = Z.view.selected;
  const next = by > 0 ? order.find((each) => each > here) : order.findLast((each) => each < here);
  Z.choose(next ?? (by > 0 ? order[0] : order[order.length - 1]), true);
};
