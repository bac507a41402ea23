// SPDX-License-Identifier: Apache-2.0
// What goes between lanes: forks, joins, adoptions, reaps.

const NEAR = 10; // px of a lane from which each lane's arrows are drawn; below, those of the chosen

Z.paintForks = function (ctx, [first, last]) {
  const v = Z.view;
  const l = Z.d.lives;
  ctx.fillStyle = Z.colors.muted;
  for (let i = first; i <= last; i++) {
    const parent = l.parent[i];
    const at = l.fork[i];
    if (parent < 0 || at === null || at < v.t0 || at > v.t1) continue;
    const from = Math.max(Z.middle(parent), Z.AXIS);
    ctx.fillRect(Z.x(at) - 0.5, from, 1, Z.middle(i) - from);
  }
};

// A waiting thread: hatched into the lower part of its process's bar.
Z.paintJoins = function (ctx, [first, last]) {
  const v = Z.view;
  if (!Z.joinsOf.size) return;
  for (let i = first; i <= last; i++) {
    for (const number of Z.joinsOf.get(i) || []) {
      const [, , began, ended, , kind] = Z.d.joins[number];
      const from = began ?? ended;
      const to = Math.min(ended ?? Z.last, Z.dead(i) ?? Z.last);
      if (from === null || to < v.t0 || from > v.t1) continue;
      const [y, height] = Z.bar(i);
      const x = Z.x(from);
      const width = Math.max(1.5, Z.x(to) - x);
      ctx.fillStyle = Z.colors.join;
      ctx.fillRect(x, y + height * 0.25, width, height * 0.75);
      const begin = Math.max(x, v.gutter);
      if (v.lane < 16 || x + width - begin < 70) continue;
      ctx.font = `${Math.min(12, v.lane * 0.52)}px ${Z.colors.font}`;
      const text = "waits in " + (Z.text(kind) || "join");
      if (ctx.measureText(text).width + 10 > x + width - begin) continue;
      ctx.fillStyle = Z.colors["join-fg"];
      ctx.fillText(text, begin + 5, y + height * 0.62);
    }
  }
};

Z.paintLinks = function (ctx, [first, last]) {
  const v = Z.view;
  if (v.lane >= NEAR) for (let i = first; i <= last; i++) links(ctx, i, i === v.selected || i === v.hover);
  else for (const i of new Set([v.selected, v.hover])) if (i >= 0) links(ctx, i, true);
};

/** @param {Context} ctx @param {Lane} i @param {boolean} chosen */
function links(ctx, i, chosen) {
  const v = Z.view;
  if (Z.isShared(i)) return;
  for (const [ns, , , to] of Z.d.reparents[i] || []) if (to !== null && ns >= v.t0 && ns <= v.t1) adoption(ctx, i, to, Z.x(ns), chosen);
  const reap = Z.d.lives.reap[i];
  const reaper = Z.d.lives.reaperLane[i];
  if (reap !== null && reaper !== null && reap >= v.t0 && reap <= v.t1) reaping(ctx, i, reaper, Z.x(reap), chosen);
}

/** @param {Context} ctx @param {Lane} i @param {Lane} to @param {number} x @param {boolean} chosen */
function adoption(ctx, i, to, x, chosen) {
  const from = Z.middle(i);
  const end = Z.middle(to);
  ctx.strokeStyle = Z.colors.adopt;
  ctx.lineWidth = chosen ? 3 : 2;
  ctx.setLineDash([5, 3]);
  line(ctx, x, from, end);
  ctx.setLineDash([]);
  ctx.fillStyle = Z.colors.adopt;
  for (const y of [from, end]) {
    ctx.beginPath();
    ctx.moveTo(x, y - 5);
    ctx.lineTo(x + 5, y);
    ctx.lineTo(x, y + 5);
    ctx.lineTo(x - 5, y);
    ctx.fill();
  }
}

// From the child to its reaper's lane; the call stands beside it where there is room.
/** @param {Context} ctx @param {Lane} i @param {Lane} reaper @param {number} x @param {boolean} chosen */
function reaping(ctx, i, reaper, x, chosen) {
  const v = Z.view;
  const from = Z.middle(i);
  const to = Z.middle(reaper);
  const up = to < from ? 1 : -1;
  ctx.strokeStyle = ctx.fillStyle = Z.colors.reap;
  ctx.lineWidth = chosen ? 2.5 : 1.25;
  line(ctx, x, from, to + 6 * up);
  ctx.beginPath();
  ctx.moveTo(x, to);
  ctx.lineTo(x - 4, to + 8 * up);
  ctx.lineTo(x + 4, to + 8 * up);
  ctx.fill();
  if (v.lane < 18 && !chosen) return;
  const text = "reaped" + (Z.callWords(i) ? ": " + Z.callWords(i) : "");
  ctx.font = `${Math.min(12, Math.max(10, v.lane * 0.52))}px ${Z.colors.font}`;
  const width = ctx.measureText(text).width;
  // right of the arrow, else upon the end of the bar, if the bar's own words leave room
  const right = x + width + 10 < v.width;
  const left = right ? x + 6 : x - width - 8;
  const bar = Math.max(Z.x(Z.dies(i) ?? Z.begin(i)), v.gutter);
  if (!right && left < bar + (chosen ? 0 : 150)) return;
  ctx.fillStyle = Z.colors.bg;
  ctx.globalAlpha = 0.85;
  ctx.fillRect(left - 3, from - 8, width + 6, 16);
  ctx.globalAlpha = 1;
  ctx.fillStyle = Z.colors.fg;
  ctx.fillText(text, left, from);
}

/** @param {Context} ctx @param {number} x @param {number} from @param {number} to */
function line(ctx, x, from, to) {
  const clip = (/** @type {number} */ y) => Math.max(Z.AXIS - 20, Math.min(Z.view.height + 20, y));
  ctx.beginPath();
  ctx.moveTo(x, clip(from));
  ctx.lineTo(x, clip(to));
  ctx.stroke();
}
