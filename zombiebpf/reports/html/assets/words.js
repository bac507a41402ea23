// SPDX-License-Identifier: Apache-2.0
// Durations, instants and processes in words. Z.duration() returns the same text as
// Wording.duration() of zombiebpf/wording/wording.py: tests/browser/test_words.py compares them.
/** @type {[number, string][]} */
const UNITS = [[1e3, "µs"], [1e6, "ms"], [1e9, "s"]];

Z.duration = function (ns) {
  if (ns === null || ns === undefined) return "-";
  if (ns < 0) return "-" + Z.duration(-ns);
  if (ns < 1000) return Math.round(ns) + " ns";
  for (const [unit, name] of UNITS) {
    const value = ns / unit;
    const digits = threeDigits(value);
    if (Number(digits) < (unit === 1e9 ? 60 : 1000)) return digits + " " + name;
  }
  const seconds = Math.round(ns / 1e9);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (!hours) return minutes + " min " + (seconds % 60) + " s";
  if (hours < 24) return hours + " h " + (minutes % 60) + " min";
  return Math.floor(hours / 24) + " d " + (hours % 24) + " h";
};

// Python rounds a tie to the even digit, toFixed() rounds it up. A tie at n decimals is an odd
// multiple of 2^-(n+1), so the product is exact.
/** @param {number} value */
function threeDigits(value) {
  const decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  const tie = (value * 2 ** (decimals + 1)) % 2 === 1;
  let text = value.toFixed(decimals);
  if (tie && Number(text.slice(-1)) % 2 === 1) text = (Number(text) - 10 ** -decimals).toFixed(decimals);
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

// All nine digits, in groups: "+3.123 456 789 s"
Z.instant = function (ns) {
  if (ns === null || ns === undefined) return "-";
  const sign = ns < 0 ? "−" : "+";
  const whole = Math.abs(Math.round(ns));
  const seconds = Math.floor(whole / 1e9);
  const digits = String(whole % 1e9).padStart(9, "0");
  return `${sign}${seconds}.${digits.slice(0, 3)} ${digits.slice(3, 6)} ${digits.slice(6)} s`;
};

// The bounds that late stamps leave.
Z.intervalWords = function (i) {
  const l = Z.d.lives;
  const interval = Z.interval(i);
  if (interval === null) return Z.BY[l.by[i]] === "kernel" ? "no zombie" : "-";
  const late = l.flags[i];
  if (Z.foundDead(i)) return ">= " + Z.duration(interval) + (l.reap[i] === null ? ", still" : "");
  const mark = late & 1 ? (late & 2 ? "~ " : ">= ") : late & 2 ? "<= " : "";
  return mark + Z.duration(interval) + (l.reap[i] === null ? ", still" : "");
};

Z.reaperWords = function (i) {
  const l = Z.d.lives;
  const by = Z.BY[l.by[i]];
  if (!by) return Z.state(i) === "zombie" ? "nobody" : "-";
  if (by === "kernel") return "kernel, nobody waited";
  const who = [by === "unseen" ? null : by, Z.text(l.reaper[i])].filter(Boolean).join(" ");
  return who || "not seen";
};

Z.callWords = function (i) {
  const kind = Z.text(Z.d.lives.kind[i]);
  const call = Z.text(Z.d.lives.call[i]);
  if (!call || kind === call) return call || kind;
  return kind && !call.startsWith(kind) ? `${kind} (${call})` : call;
};

// One sentence on a lane, for people who do not see it.
Z.sentence = function (i) {
  const l = Z.d.lives;
  if (Z.isShared(i)) return `${Z.name(i)}, forked ${at(Z.site(l.forkSite[i]))}`;
  const parts = [Z.name(i)];
  const site = Z.site(l.forkSite[i]);
  if (site) parts.push("forked at " + site);
  if (l.exit[i] !== null) parts.push(Z.text(l.ended[i]) ?? "");
  if (Z.dies(i) !== null) parts.push("zombie for " + Z.intervalWords(i) + (Z.foundDead(i) ? " (since before we looked)" : ""));
  parts.push(l.reap[i] !== null ? "reaped by " + Z.reaperWords(i) : Z.state(i) === "zombie" ? "not reaped" : "running");
  return parts.join(", ") + ".";
};

/** @param {string | null} site */
function at(site) {
  return site ? "at " + site : "in a place that was not seen";
}
