// SPDX-License-Identifier: Apache-2.0
// The part of time and of the lanes that is seen, and where things lie in it.

const SMALLEST = 100; // ns across the whole width
const BEFORE = 0.01; // of the whole, left of it
const AFTER = 0.09; // right of it: there is room for words there

Z.AXIS = 36; // px above the lanes
Z.EDGE = 12; // px at the right for the overview

// t0, t1: ns seen; lane: height of one in px; top: px scrolled; gutter: px for the names.
Z.view = { t0: 0, t1: 1, lane: 22, top: 0, width: 800, height: 400, gutter: 220, selected: -1, hover: -1, at: null };

Z.whole = function () {
  const span = Z.last - Z.first;
  return [Z.first - span * BEFORE, Z.last + span * AFTER];
};

Z.x = function (t) {
  const v = Z.view;
  const x = v.gutter + ((t - v.t0) / (v.t1 - v.t0)) * (v.width - v.gutter);
  return Math.max(-50, Math.min(v.width + 50, x)); // canvas coordinates are 32-bit floats
};

Z.timeAt = function (x) {
  const v = Z.view;
  return v.t0 + ((x - v.gutter) / (v.width - v.gutter)) * (v.t1 - v.t0);
};

// Rows: who was not observed first, then the lanes. `lane` is negative for the former.
Z.rows = () => Z.outside + Z.count;
Z.row = (lane) => (lane >= 0 ? Z.outside + lane : -1 - lane);
Z.y = (row) => Z.AXIS + row * Z.view.lane - Z.view.top;
Z.middle = (lane) => Z.y(Z.row(lane)) + Z.view.lane / 2;
Z.rowAt = function (y) {
  const row = Math.floor((y - Z.AXIS + Z.view.top) / Z.view.lane);
  return y >= Z.AXIS && row >= 0 && row < Z.rows() ? row : -1;
};

// Shows t0..t1, as far as there is anything.
Z.show = function (t0, t1) {
  const [first, last] = Z.whole();
  const span = Math.min(Math.max(t1 - t0, SMALLEST), last - first);
  const begin = Math.min(Math.max(t0, first), last - span);
  Z.view.t0 = begin;
  Z.view.t1 = begin + span;
  Z.redraw();
};

// factor < 1: nearer. What is at `t` stays where it is.
Z.zoom = function (factor, t) {
  const v = Z.view;
  const [first, last] = Z.whole();
  const span = Math.min(Math.max((v.t1 - v.t0) * factor, SMALLEST), last - first);
  const real = span / (v.t1 - v.t0);
  Z.show(t - (t - v.t0) * real, t - (t - v.t0) * real + span);
};

Z.pan = function (part) {
  const v = Z.view;
  const by = (v.t1 - v.t0) * part;
  Z.show(v.t0 + by, v.t1 + by);
};

// A step of 1, 2 or 5 times a power of ten (of seconds; of minutes and hours above) for some 110 px.
Z.step = function () {
  const v = Z.view;
  const wish = ((v.t1 - v.t0) / (v.width - v.gutter)) * 110;
  if (wish > 10e9) for (const step of [15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]) if (step * 1e9 >= wish) return step * 1e9;
  let step = 1;
  for (;;) {
    for (const factor of [1, 2, 5]) if (step * factor >= wish) return step * factor;
    step *= 10;
  }
};

// What the ticks count from: the beginning, or where digits would become too many a round instant near by.
Z.base = function (step) {
  if (step >= 1e6) return 0;
  const unit = step >= 1e3 ? 1e6 : 1e3; // ticks in µs count from a ms, ticks in ns from a µs
  return Math.floor(Z.view.t0 / unit) * unit;
};

Z.tick = function (offset, step) {
  if (offset === 0) return "0";
  if (step >= 10e9) return Z.duration(offset).replace(/ 0 (s|min|h)$/, "");
  const [unit, name] = step >= 1e9 || Math.abs(offset) >= 1e9 ? [1e9, "s"] : step >= 1e6 ? [1e6, "ms"] : step >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  const digits = Math.max(0, Math.ceil(Math.log10(unit / step)));
  return (offset / unit).toFixed(digits) + " " + name;
};
