// SPDX-License-Identifier: Apache-2.0
// Draws what is seen of the timeline. Only rows that are seen are looked at, so its
// cost does not depend on how many there are.

const NAMES = ["bg", "fg", "muted", "line", "stripe", "select", "match", "run", "run-fg", "dying", "join", "join-fg", "zombie", "brief", "adopt", "reap", "outside"];
const BAR = 0.62; // of a lane's height

/** @type {Record<string, string>} */
const colors = {};
/** @type {CanvasPattern | string} */
let stripes = "";

Z.readColors = function (ctx) {
  const style = getComputedStyle(document.documentElement);
  for (const name of NAMES) colors[name] = style.getPropertyValue("--" + name).trim();
  colors.font = style.getPropertyValue("--mono").trim();
  const tile = document.createElement("canvas");
  tile.width = tile.height = 10;
  const t = /** @type {Context} */ (tile.getContext("2d"));
  t.strokeStyle = "rgba(255,255,255,0.28)";
  t.lineWidth = 3;
  for (const shift of [-10, 0, 10]) {
    t.beginPath();
    t.moveTo(shift - 2, 12);
    t.lineTo(shift + 12, -2);
    t.stroke();
  }
  stripes = ctx.createPattern(tile, "repeat") ?? "";
  Z.colors = colors;
};

Z.paint = function (ctx) {
  const v = Z.view;
  ctx.textBaseline = "middle";
  ctx.fillStyle = colors.bg;
  ctx.fillRect(0, 0, v.width, v.height);
  const first = Math.max(0, Math.floor(v.top / v.lane));
  const last = Math.min(Z.rows() - 1, Math.ceil((v.top + v.height) / v.lane));
  paintRows(ctx, first, last);
  const grid = paintGrid(ctx);
  ctx.save();
  ctx.beginPath();
  ctx.rect(v.gutter, Z.AXIS, v.width - v.gutter, v.height - Z.AXIS);
  ctx.clip();
  /** @type {Lanes} */
  const lanes = [Math.max(0, first - Z.outside), last - Z.outside];
  paintOutside(ctx, first, last);
  paintRunning(ctx, lanes);
  if (v.lane >= 8) Z.paintForks(ctx, lanes);
  Z.paintJoins(ctx, lanes);
  paintZombies(ctx, lanes);
  Z.paintLinks(ctx, lanes);
  ctx.restore();
  paintNames(ctx, first, last);
  paintAxis(ctx, grid);
  paintOverview(ctx);
};

/** @param {Context} ctx @param {number} first @param {number} last */
function paintRows(ctx, first, last) {
  const v = Z.view;
  if (v.lane < 8 && !Z.matches && v.selected < 0) return;
  for (let row = first; row <= last; row++) {
    const lane = row - Z.outside;
    const chosen = lane >= 0 && lane === v.selected;
    const fill = chosen ? colors.select : lane >= 0 && Z.matches && Z.matches.has(lane) ? colors.match : row % 2 && v.lane >= 8 ? colors.stripe : null;
    if (!fill) continue;
    ctx.fillStyle = fill;
    ctx.fillRect(0, Z.y(row), v.width, Math.max(v.lane, 1));
  }
}

/** @param {Context} ctx */
function paintGrid(ctx) {
  const v = Z.view;
  const step = Z.step();
  const base = Z.base(step);
  /** @type {[number, string][]} */
  const ticks = [];
  for (let n = Math.ceil((v.t0 - base) / step); base + n * step <= v.t1; n++) ticks.push([Z.x(base + n * step), Z.tick(n * step, step)]);
  ctx.fillStyle = colors.line;
  for (const [x] of ticks) if (x >= v.gutter) ctx.fillRect(Math.round(x), Z.AXIS - 6, 1, v.height);
  // where the observation ended
  ctx.fillStyle = colors.muted;
  const x = Math.round(Z.x(Z.end));
  if (x >= v.gutter && x < v.width) for (let y = Z.AXIS; y < v.height; y += 8) ctx.fillRect(x, y, 1, 4);
  return { base, ticks };
}

/** @param {Context} ctx @param {number} first @param {number} last */
function paintOutside(ctx, first, last) {
  ctx.fillStyle = colors.outside;
  for (let row = first; row < Math.min(Z.outside, last + 1); row++) {
    const y = Math.round(Z.y(row) + Z.view.lane / 2);
    for (let x = Z.view.gutter + 4; x < Z.view.width; x += 8) ctx.fillRect(x, y, 3, 1);
  }
}

/** @param {Lane} lane @param {number} part @returns {[number, number]} */
function bar(lane, part) {
  const v = Z.view;
  const height = Math.max(1, v.lane * (v.lane >= 8 ? part : 1));
  const y = Z.y(Z.row(lane));
  return v.lane >= 8 ? [y + (v.lane - height) / 2, height] : [Math.floor(y), Math.ceil(height)];
}
Z.bar = (lane) => bar(lane, BAR);

// Of lanes that share a row of pixels only one would be seen: one is painted.
const stride = () => Math.max(1, Math.floor(1 / Z.view.lane));

/** @param {Context} ctx @param {Lanes} lanes */
function paintRunning(ctx, [first, last]) {
  const v = Z.view;
  for (let i = first; i <= last; i += stride()) {
    if (Z.isShared(i)) {
      paintShared(ctx, i);
      continue;
    }
    const dead = Z.dead(i);
    const from = Z.begin(i);
    const to = dead ?? Z.last;
    if (to < v.t0 || from > v.t1 || Z.foundDead(i)) continue;
    const [y, height] = bar(i, BAR);
    ctx.fillStyle = colors.run;
    ctx.fillRect(Z.x(from), y, Math.max(1, Z.x(to) - Z.x(from)), height);
    if (Z.d.lives.fork[i] === null && Z.d.lives.above[i] >= 0) before(ctx, Z.x(from), y, height, colors.run);
    whence(ctx, i, Z.x(from), Z.x(to), y + height / 2);
    const end = Z.dies(i) ?? Z.d.lives.reap[i];
    if (dead !== null && end !== null && end > dead) {
      ctx.fillStyle = colors.dying;
      ctx.fillRect(Z.x(dead), y, Math.max(0.5, Z.x(end) - Z.x(dead)), height);
    }
  }
}

// "app.py:42 in main" upon the bar of what was forked there.
/** @param {Context} ctx @param {Lane} i @param {number} from @param {number} to @param {number} y */
function whence(ctx, i, from, to, y) {
  const v = Z.view;
  const begin = Math.max(from, v.gutter) + 6;
  const room = Math.min(to, v.width) - begin - 4;
  if (v.lane < 16 || room < 60) return;
  const frame = Z.frame(Z.d.lives.forkSite[i]);
  if (!frame) return;
  ctx.font = `${Math.min(12, v.lane * 0.52)}px ${colors.font}`;
  const full = "forked at " + Z.site(Z.d.lives.forkSite[i]);
  const short = full.slice(10).split(" in ")[0];
  const text = [full, full.slice(10), short].find((each) => ctx.measureText(each).width <= room);
  if (!text || Z.joinsOf.has(i)) return;
  ctx.fillStyle = colors["run-fg"];
  ctx.fillText(text, begin, y);
}

// Many siblings: how many run is how high the bar stands.
/** @param {Context} ctx @param {Lane} i */
function paintShared(ctx, i) {
  const { running, zombie } = Z.d.shared[i];
  const [y, height] = bar(i, 0.9);
  const most = Math.max(1, ...running, ...zombie);
  const width = Z.end / running.length;
  /** @type {[number[], string][]} */
  const parts = [[running, colors.run], [zombie, colors.zombie]];
  for (const [counts, color] of parts) {
    ctx.fillStyle = color;
    counts.forEach((count, bin) => {
      const x = Z.x(bin * width);
      const part = (count / most) * height;
      if (part > 0.05) ctx.fillRect(x, y + height - part, Math.max(1, Z.x((bin + 1) * width) - x), part);
    });
  }
}

// The long ones last, and every one of them: nothing hides them.
/** @param {Context} ctx @param {Lanes} lanes */
function paintZombies(ctx, [first, last]) {
  for (let i = first; i <= last; i += stride()) if (!Z.isLong(i)) paintZombie(ctx, i, false);
  for (const i of Z.long) if (i >= first && i <= last) paintZombie(ctx, i, true);
}

/** @param {Context} ctx @param {Lane} i @param {boolean} long */
function paintZombie(ctx, i, long) {
  const v = Z.view;
  const from = Z.dies(i);
  if (from === null || Z.isShared(i)) return;
  const to = Z.gone(i);
  if (to < v.t0 || from > v.t1) return;
  const [y, height] = bar(i, long ? 0.86 : BAR);
  const x = Z.x(from);
  const width = Math.max(long ? 4 : 2, Z.x(to) - x);
  ctx.fillStyle = long ? colors.zombie : colors.brief;
  ctx.fillRect(x, y, width, height);
  if (v.lane < 8) return;
  if (long && width > 8) {
    ctx.fillStyle = stripes;
    ctx.fillRect(x, y, width, height);
  }
  if (Z.foundDead(i)) before(ctx, x, y, height, colors.zombie);
  label(ctx, i, x, width, y + height / 2);
}

// An arrow to the left, where a bar has no beginning: it was so before the observation.
/** @param {Context} ctx @param {number} x @param {number} y @param {number} height @param {string} color */
function before(ctx, x, y, height, color) {
  ctx.fillStyle = color;
  ctx.beginPath();
  ctx.moveTo(x, y);
  ctx.lineTo(x - 8, y + height / 2);
  ctx.lineTo(x, y + height);
  ctx.fill();
}

// "ZOMBIE for 700 ms" in the part of the bar that is seen, or right of it.
/** @param {Context} ctx @param {Lane} i @param {number} x @param {number} width @param {number} y */
function label(ctx, i, x, width, y) {
  const v = Z.view;
  if (v.lane < 14) return;
  const begin = Math.max(x, v.gutter);
  const end = Math.min(x + width, v.width);
  const long = Z.isLong(i);
  if (!long && end - begin < 60) return;
  const since = Z.foundDead(i) ? " since before we looked, " : " for ";
  const text = (long ? "ZOMBIE" : "zombie") + since + Z.intervalWords(i);
  ctx.font = `bold ${Math.min(13, v.lane * 0.58)}px ${colors.font}`;
  const room = ctx.measureText(text).width;
  const brief = Z.intervalWords(i);
  if (room + 12 < end - begin) {
    ctx.fillStyle = "#fff";
    ctx.fillText(text, begin + 6, y);
  } else if (ctx.measureText(brief).width + 12 < end - begin) {
    ctx.fillStyle = "#fff";
    ctx.fillText(brief, begin + 6, y);
  } else if (long && end + room + 8 < v.width) {
    ctx.fillStyle = colors.zombie;
    ctx.fillText(text, end + 5, y);
  } else if (long && x - room - 8 > v.gutter) {
    ctx.fillStyle = colors.fg;
    ctx.fillText(text, x - room - 5, y);
  }
}

/** @param {Context} ctx @param {number} first @param {number} last */
function paintNames(ctx, first, last) {
  const v = Z.view;
  ctx.fillStyle = colors.bg;
  ctx.globalAlpha = 0.9;
  ctx.fillRect(0, Z.AXIS, v.gutter - 1, v.height);
  ctx.globalAlpha = 1;
  ctx.fillStyle = colors.line;
  ctx.fillRect(v.gutter - 1, 0, 1, v.height);
  if (v.lane < 10) return paintSpots(ctx, first, last);
  const size = Math.min(13, v.lane * 0.6);
  for (let row = first; row <= last; row++) {
    const lane = row - Z.outside;
    const y = Z.y(row) + v.lane / 2;
    const long = lane >= 0 && Z.isLong(lane);
    ctx.font = `${lane >= 0 && (long || lane === v.selected) ? "bold " : ""}${size}px ${colors.font}`;
    ctx.fillStyle = lane < 0 ? colors.muted : long ? colors.zombie : colors.fg;
    const depth = lane < 0 ? 0 : Math.min(Z.d.lives.depth[lane], 12);
    const text = lane < 0 ? Z.text(Z.d.outside[row][1]) + " " + Z.d.outside[row][0] + " (not observed)" : shorter(Z.name(lane));
    const x = 6 + depth * Math.min(12, v.gutter / 16);
    if (depth) {
      const color = ctx.fillStyle;
      ctx.fillStyle = colors.muted;
      ctx.fillRect(x - 7, y - v.lane / 2, 1, v.lane / 2);
      ctx.fillRect(x - 7, y, 5, 1);
      ctx.fillStyle = color;
    }
    ctx.fillText(fit(ctx, text, v.gutter - x - 6), x, y);
  }
}

// Rows too low for names: at least where the long zombies are.
/** @param {Context} ctx @param {number} first @param {number} last */
function paintSpots(ctx, first, last) {
  ctx.fillStyle = colors.zombie;
  for (const lane of Z.long) {
    const row = Z.row(lane);
    if (row >= first && row <= last) ctx.fillRect(Z.view.gutter - 12, Z.y(row), 9, Math.max(2, Z.view.lane));
  }
}

// At the right edge, where there are more lanes than are seen: which are seen, and the long zombies of all.
/** @param {Context} ctx */
function paintOverview(ctx) {
  const v = Z.view;
  const whole = Z.rows() * v.lane;
  const room = v.height - Z.AXIS;
  if (whole <= room) return;
  ctx.fillStyle = colors.stripe;
  ctx.fillRect(v.width - Z.EDGE, Z.AXIS, Z.EDGE, room);
  ctx.fillStyle = colors.line;
  ctx.fillRect(v.width - Z.EDGE, Z.AXIS + (v.top / whole) * room, Z.EDGE, Math.max(3, (room / whole) * room));
  ctx.fillStyle = colors.zombie;
  for (const lane of Z.long) ctx.fillRect(v.width - Z.EDGE + 2, Z.AXIS + (Z.row(lane) / Z.rows()) * room, Z.EDGE - 2, 2);
}

// Without the directories of absolute paths: the facts have them.
/** @param {string} text */
function shorter(text) {
  return text.replace(/(^|\s)\/\S*\/(?=[^/\s])/g, "$1");
}

/** @param {Context} ctx @param {string} text @param {number} width */
function fit(ctx, text, width) {
  if (text.length > 200) text = text.slice(0, 200);
  if (ctx.measureText(text).width <= width) return text;
  const one = ctx.measureText("0").width; // the font is monospaced, nearly always
  let end = Math.max(0, Math.floor(width / one) - 1);
  while (end > 0 && ctx.measureText(text.slice(0, end) + "…").width > width) end--;
  return text.slice(0, end) + "…";
}

/** @param {Context} ctx @param {{ base: Ns, ticks: [number, string][] }} grid */
function paintAxis(ctx, { base, ticks }) {
  const v = Z.view;
  ctx.fillStyle = colors.bg;
  ctx.fillRect(0, 0, v.width, Z.AXIS - 6);
  ctx.fillStyle = colors.line;
  ctx.fillRect(0, Z.AXIS - 1, v.width, 1);
  ctx.font = `12px ${colors.font}`;
  ctx.fillStyle = colors.muted;
  const since = base ? Z.instant(base).replace(/(?: 000)+ s$/, " s") : v.gutter > 150 ? "since the start" : "since start";
  ctx.fillText(fit(ctx, since, v.gutter - 10), 6, 16);
  for (const [x, text] of ticks) {
    const width = ctx.measureText(text).width;
    const left = x - width / 2;
    if (left > v.gutter - 1 && left + width < v.width) ctx.fillText(base ? "+" + text : text, left, 16);
  }
  if (v.at !== null) {
    const x = Math.round(Z.x(v.at));
    ctx.fillStyle = colors.fg;
    ctx.fillRect(x, Z.AXIS - 6, 1, v.height);
    ctx.fillStyle = colors.fg;
    const text = Z.instant(v.at);
    const width = ctx.measureText(text).width + 8;
    const left = Math.min(Math.max(x - width / 2, v.gutter), v.width - width);
    ctx.fillRect(left, 5, width, 20);
    ctx.fillStyle = colors.bg;
    ctx.fillText(text, left + 4, 16);
  }
}
