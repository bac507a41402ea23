// SPDX-License-Identifier: Apache-2.0
// The timeline's place in the page: its size, when it is drawn, what is chosen.

const ROW = 22; // px, as a rule
const LOWEST = 15; // px, where that makes all of them seen at once
const HIGHEST = 30;
const LEAST = 1 / 64;

/** @type {HTMLElement} */
let box; // scrolls through the lanes
/** @type {HTMLElement} */
let room; // as high as all lanes
/** @type {HTMLCanvasElement} */
let canvas;
/** @type {Context} */
let ctx;
let asked = false;

Z.stats = { frames: 0, first: null, longest: 0 }; // ms; for bench/html.py

Z.openTimeline = function () {
  box = Z.box = document.getElementById("lanes");
  room = document.getElementById("room");
  canvas = document.getElementById("canvas");
  ctx = /** @type {Context} */ (canvas.getContext("2d", { alpha: false }));
  Z.readColors(ctx);
  [Z.view.t0, Z.view.t1] = Z.whole();
  const fitting = Math.floor((tallest() - Z.AXIS - 8) / Z.rows());
  Z.view.lane = fitting < LOWEST ? ROW : Math.min(fitting, HIGHEST);
  box.addEventListener("scroll", () => {
    Z.view.top = box.scrollTop;
    Z.redraw();
  });
  new ResizeObserver(Z.measure).observe(box);
  Z.measure();
  if (Z.long.length) scrollTo(Z.long[0]); // nobody shall have to look for it
};

Z.measure = function () {
  const v = Z.view;
  const width = box.clientWidth;
  if (!width) return;
  const all = Z.AXIS + Z.rows() * v.lane + 8;
  v.height = Math.min(Math.ceil(all), tallest());
  v.width = width;
  v.gutter = Math.round(Math.min(320, Math.max(104, width * 0.24)));
  box.style.height = v.height + "px";
  room.style.height = Math.max(0, Math.floor(all) - v.height) + "px";
  const dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(v.width * dots);
  canvas.height = Math.round(v.height * dots);
  canvas.style.width = v.width + "px";
  canvas.style.height = v.height + "px";
  v.top = box.scrollTop;
  Z.draw();
};

function tallest() {
  return Math.max(300, Math.round(window.innerHeight * 0.62));
}

Z.redraw = function () {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    Z.draw();
  });
};

Z.draw = function () {
  const began = performance.now();
  const dots = window.devicePixelRatio || 1;
  ctx.setTransform(dots, 0, 0, dots, 0, 0);
  Z.paint(ctx);
  const took = performance.now() - began;
  Z.stats.frames++;
  Z.stats.longest = Math.max(Z.stats.longest, took);
  if (Z.stats.first === null) Z.stats.first = performance.now();
};

Z.recolor = function () {
  Z.readColors(ctx);
  Z.draw();
};

// Rows of another height; the middle one stays where it is. At the least all of them are seen.
Z.stretch = function (factor) {
  const v = Z.view;
  const middle = (v.top + (v.height - Z.AXIS) / 2) / v.lane;
  const least = Math.max(LEAST, Math.min(ROW, (tallest() - Z.AXIS - 8) / Z.rows()));
  v.lane = Math.min(44, Math.max(least, v.lane * factor));
  if (v.lane > 6) v.lane = Math.round(v.lane);
  Z.measure();
  box.scrollTop = middle * v.lane - (v.height - Z.AXIS) / 2;
};

Z.choose = function (lane, bringIntoView) {
  Z.view.selected = lane;
  const panel = document.getElementById("facts");
  panel.replaceChildren();
  if (lane >= 0) {
    const head = panel.appendChild(Z.element("h3", "", Z.name(lane)));
    head.id = "facts-of";
    panel.appendChild(Z.factsTable(lane, true));
  }
  panel.hidden = lane < 0;
  document.getElementById("said").textContent = lane < 0 ? "" : Z.sentence(lane);
  if (lane >= 0 && bringIntoView) into(lane);
  Z.redraw();
};

/** @param {Lane} lane */
function into(lane) {
  const v = Z.view;
  scrollTo(lane);
  const from = Z.begin(lane);
  const to = Z.gone(lane);
  if (to < v.t0 || from > v.t1) Z.show(from - (v.t1 - v.t0) * 0.1, from + (v.t1 - v.t0) * 0.9);
}

/** @param {Lane} lane */
function scrollTo(lane) {
  const v = Z.view;
  const y = Z.row(lane) * v.lane;
  if (y < v.top || y + v.lane > v.top + v.height - Z.AXIS) box.scrollTop = y - (v.height - Z.AXIS) / 2;
}

// Shows a lane from where its reader's eye should begin: its end, and the zombie.
Z.showLane = function (lane) {
  const [first, last] = Z.whole();
  Z.show(first, last);
  Z.choose(lane, true);
  document.getElementById("timeline").scrollIntoView({ block: "start" });
  box.focus({ preventScroll: true });
};

Z.zoomTo = function (lane) {
  const from = Z.dies(lane) ?? Z.begin(lane);
  const to = Z.dies(lane) === null ? (Z.dead(lane) ?? Z.last) : Z.gone(lane);
  const span = Math.max(to - from, 1000);
  Z.show(from - span * 0.25, to + span * 0.25);
};

// The next lane whose zombie was long; else, the next zombie at all.
Z.nextZombie = function () {
  for (const least of [Z.BRIEF, 0]) {
    for (let n = 1; n <= Z.count; n++) {
      const lane = (Z.view.selected + n + Z.count) % Z.count;
      const interval = Z.interval(lane);
      if (!Z.isShared(lane) && interval !== null && interval >= least) return Z.choose(lane, true);
    }
  }
};
