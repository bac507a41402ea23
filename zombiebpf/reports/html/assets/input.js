// SPDX-License-Identifier: Apache-2.0
// Mouse, fingers and keys upon the timeline.

const STILL = 5; // px that a click may move

/** @type {Map<number, Point>} */
const pointers = new Map();
let moved = 0;
/** @type {HTMLElement} */
let tip;

Z.openInput = function () {
  tip = document.getElementById("tip");
  const canvas = document.getElementById("canvas");
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", leave);
  canvas.addEventListener("dblclick", (event) => Z.zoom(0.25, Z.timeAt(at(event)[0])));
  Z.box.addEventListener("wheel", wheel, { passive: false });
  Z.box.addEventListener("keydown", key);
  /** @type {(id: keyof Ids, act: () => void) => void} */
  const on = (id, act) => document.getElementById(id).addEventListener("click", act);
  on("nearer", () => Z.zoom(0.5, (Z.view.t0 + Z.view.t1) / 2));
  on("farther", () => Z.zoom(2, (Z.view.t0 + Z.view.t1) / 2));
  on("whole", () => Z.show(...Z.whole()));
  on("taller", () => Z.stretch(1.5));
  on("flatter", () => Z.stretch(1 / 1.5));
  on("next-zombie", Z.nextZombie);
};

/** @param {MouseEvent} event @returns {Point} */
function at(event) {
  const place = document.getElementById("canvas").getBoundingClientRect();
  return [event.clientX - place.left, event.clientY - place.top];
}

/** @param {PointerEvent} event */
function down(event) {
  if (event.button) return;
  pointers.set(event.pointerId, at(event));
  moved = pointers.size > 1 ? STILL + 1 : 0;
  document.getElementById("canvas").setPointerCapture(event.pointerId);
  hide();
}

/** @param {PointerEvent} event */
function move(event) {
  const here = at(event);
  const before = pointers.get(event.pointerId);
  if (!before) return hover(event, here);
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  if (others.length) pinch(before, here, others[0]);
  else {
    moved += Math.abs(here[0] - before[0]) + Math.abs(here[1] - before[1]);
    if (moved > STILL) drag(event, before, here);
  }
  pointers.set(event.pointerId, here);
}

/** @param {PointerEvent} event @param {Point} before @param {Point} here */
function drag(event, before, here) {
  const v = Z.view;
  Z.pan((before[0] - here[0]) / (v.width - v.gutter));
  if (event.pointerType === "mouse") Z.box.scrollTop += before[1] - here[1];
}

/** @param {Point} before @param {Point} here @param {Point} other */
function pinch(before, here, other) {
  const wide = (/** @type {Point} */ place) => Math.max(10, Math.hypot(place[0] - other[0], place[1] - other[1]));
  Z.zoom(wide(before) / wide(here), Z.timeAt((here[0] + other[0]) / 2));
  moved = STILL + 1;
}

/** @param {PointerEvent} event */
function up(event) {
  const clicked = pointers.has(event.pointerId) && moved <= STILL;
  pointers.delete(event.pointerId);
  if (!clicked) return;
  const [x, y] = at(event);
  if (overview(x, y)) return;
  const row = Z.rowAt(y);
  Z.choose(row < Z.outside ? -1 : row - Z.outside);
  Z.box.focus({ preventScroll: true });
}

// A click upon the overview goes there.
/** @param {number} x @param {number} y */
function overview(x, y) {
  const v = Z.view;
  const whole = Z.rows() * v.lane;
  const room = v.height - Z.AXIS;
  if (x < v.width - Z.EDGE || y < Z.AXIS || whole <= room) return false;
  Z.box.scrollTop = ((y - Z.AXIS) / room) * whole - room / 2;
  return true;
}

function leave() {
  Z.view.at = null;
  Z.view.hover = -1;
  hide();
  Z.redraw();
}

/** @param {PointerEvent} event @param {Point} here */
function hover(event, [x, y]) {
  const v = Z.view;
  v.at = x > v.gutter ? Z.timeAt(x) : null;
  const row = Z.rowAt(y);
  const lane = row < Z.outside ? -1 : row - Z.outside;
  if (lane < 0 || event.pointerType === "touch") hide();
  else {
    if (lane !== v.hover || tip.hidden) {
      tip.replaceChildren(Z.element("strong", "", Z.name(lane)), Z.factsTable(lane, false));
      tip.hidden = false;
    }
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 18 + width < window.innerWidth ? event.clientX + 18 : event.clientX - 18 - width;
    const top = event.clientY + 18 + height < window.innerHeight ? event.clientY + 18 : event.clientY - 18 - height;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, top) + "px";
  }
  v.hover = lane;
  Z.redraw();
}

function hide() {
  tip.hidden = true;
}

// With Ctrl, Alt or Cmd, and a pinch upon a touchpad: zoom. Else it scrolls, as everywhere.
/** @param {WheelEvent} event */
function wheel(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) {
    event.preventDefault();
    const step = event.deltaMode ? event.deltaY * 30 : event.deltaY;
    Z.zoom(Math.exp(Math.max(-300, Math.min(300, step)) / 250), Z.timeAt(Math.max(at(event)[0], Z.view.gutter)));
  } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    event.preventDefault();
    Z.pan((event.deltaX || event.deltaY) / Z.view.width);
  }
}

/** @type {Record<string, () => void>} */
const KEYS = {
  ArrowLeft: () => Z.pan(-0.15),
  ArrowRight: () => Z.pan(0.15),
  ArrowUp: () => step(-1),
  ArrowDown: () => step(1),
  PageUp: () => step(-10),
  PageDown: () => step(10),
  Home: () => Z.choose(0, true),
  End: () => Z.choose(Z.count - 1, true),
  "+": () => Z.zoom(0.5, middle()),
  "=": () => Z.zoom(0.5, middle()),
  "-": () => Z.zoom(2, middle()),
  0: () => Z.show(...Z.whole()),
  "]": () => Z.stretch(1.5),
  "[": () => Z.stretch(1 / 1.5),
  z: () => Z.nextZombie(),
  n: () => Z.nextMatch(1),
  N: () => Z.nextMatch(-1),
  "/": () => document.getElementById("query").focus(),
  Enter: () => Z.view.selected >= 0 && Z.zoomTo(Z.view.selected),
  Escape: () => Z.choose(-1),
};

/** @param {KeyboardEvent} event */
function key(event) {
  const act = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

// The middle of what is seen, or the chosen lane's end if that is seen: zooming goes to what matters.
function middle() {
  const v = Z.view;
  const lane = v.selected;
  const mark = lane < 0 ? null : (Z.dies(lane) ?? Z.d.lives.exit[lane]);
  return mark !== null && mark > v.t0 && mark < v.t1 ? mark : (v.t0 + v.t1) / 2;
}

/** @param {number} by */
function step(by) {
  if (!Z.count) return;
  const from = Z.view.selected < 0 ? (by > 0 ? -1 : Z.count) : Z.view.selected;
  Z.choose(Math.min(Math.max(from + by, 0), Z.count - 1), true);
}
