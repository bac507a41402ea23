// SPDX-License-Identifier: Apache-2.0
// Puts the page to work.

const THEMES = ["auto", "light", "dark"];

function openTheme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const set = (/** @type {string} */ theme) => {
    root.dataset.theme = theme;
    button.textContent = `Colours: ${theme}`;
  };
  set("auto");
  button.addEventListener("click", () => {
    set(THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length]);
    Z.recolor();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", Z.recolor);
}

// Paper is white, and has nothing to unfold.
function openPrint() {
  let before = "auto";
  /** @type {HTMLDetailsElement[]} */
  let closed = [];
  window.addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme ?? "auto";
    document.documentElement.dataset.theme = "light";
    closed = [.../** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("main details:not([open])"))];
    for (const each of closed) each.open = true;
    Z.recolor();
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.dataset.theme = before;
    for (const each of closed) each.open = false;
    Z.recolor();
  });
}

Z.load();
document.documentElement.classList.add("live"); // what needs the scripts is shown
if (Z.count) {
  Z.openTimeline();
  Z.openInput();
  Z.openTables();
  Z.openSearch();
}
openTheme();
openPrint();
