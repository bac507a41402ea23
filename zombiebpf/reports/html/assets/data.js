// SPDX-License-Identifier: Apache-2.0
// The page's data, as reports/html/page_data.py wrote it. Instants are nanoseconds
// after the start of the observation; a lane is a life, or several together.
Z.load = function () {
  /** @type {PageData} */
  const d = JSON.parse(document.getElementById("data").textContent);
  const lives = d.lives;
  Z.d = d;
  Z.count = lives.pid.length;
  Z.outside = d.outside.length; // lanes above all others: who was not observed, but reaped or adopted
  Z.end = d.span;
  Z.BRIEF = d.long; // ns: a zombie shorter than this is nothing unusual
  Z.BY = [null, "parent", "adopter", "tracer", "kernel", "unseen"];

  let first = 0;
  let last = d.span;
  for (let i = 0; i < Z.count; i++) {
    first = Math.min(first, lives.fork[i] ?? first);
    for (const at of [lives.exit[i], lives.reap[i]]) if (at !== null && at > last) last = at;
  }
  Z.first = first;
  Z.last = Math.max(last, first + 1000);

  Z.long = []; // the lanes of long zombies
  for (let i = 0; i < Z.count; i++) if (Z.isLong(i)) Z.long.push(i);
  Z.joinsOf = new Map(); // lane -> numbers of its joins
  Z.joinsFor = new Map(); // lane -> numbers of the joins that are for it
  for (const [number, join] of d.joins.entries()) {
    push(Z.joinsOf, join[0], number);
    for (const child of join[7]) push(Z.joinsFor, child, number);
  }
};

/** @param {Map<Lane, number[]>} map @param {Lane} key @param {number} value */
function push(map, key, value) {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

Z.text = (number) => (number === null || number < 0 ? null : Z.d.texts[number]);

Z.frame = function (number) {
  if (number < 0) return null;
  const [fn, file, line] = Z.d.frames[number];
  return { fn: Z.text(fn) ?? "", file: Z.text(file) ?? "", line };
};

// "app.py:42 in main"
Z.site = function (number) {
  const frame = Z.frame(number);
  if (!frame) return null;
  const name = frame.file.slice(frame.file.lastIndexOf("/") + 1) || frame.file;
  return name + (frame.line === null ? "" : ":" + frame.line) + " in " + frame.fn;
};

// Where a lane's parts begin and end, as far as was seen; the end of the observation for what lasts on.
Z.begin = (i) => (Z.d.lives.fork[i] === null ? Z.first : Z.d.lives.fork[i]);
Z.dead = function (i) {
  const l = Z.d.lives;
  return l.exit[i] ?? Z.dies(i) ?? l.reap[i];
};
// A zombie when the observation began: since when is not known. Drawn from the left edge on.
Z.foundDead = (i) => (Z.d.lives.flags[i] & 16) !== 0;
Z.dies = (i) => (Z.foundDead(i) ? Z.first : Z.d.lives.zombie[i]);
Z.gone = (i) => Z.d.lives.reap[i] ?? Z.last;
Z.isShared = (i) => Z.d.shared[i] !== undefined;
Z.state = function (i) {
  const l = Z.d.lives;
  if (l.reap[i] !== null) return "reaped";
  return l.zombie[i] === null && !Z.foundDead(i) ? "running" : "zombie";
};
// How long it was a zombie; up to the end of the observation where it still is one, since its
// start where it was one before: at the least. null: none, or not seen.
Z.interval = function (i) {
  const l = Z.d.lives;
  const from = Z.foundDead(i) ? 0 : l.zombie[i];
  if (from === null) return null;
  return Math.max((l.reap[i] ?? Z.end) - from, 0);
};
Z.isLong = (i) => !Z.isShared(i) && (Z.interval(i) ?? -1) >= Z.BRIEF;
Z.name = (i) =>
  Z.isShared(i) ? (Z.text(Z.d.lives.command[i]) ?? "") : (Z.d.lives.pid[i] || "outside") + " " + Z.text(Z.d.lives.command[i]);
