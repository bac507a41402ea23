// SPDX-License-Identifier: Apache-2.0
// All that is known of a lane, as a table: the fact, its value, the hook that saw it.
Z.facts = function (i) {
  const l = Z.d.lives;
  /** @type {Fact[]} */
  const rows = [];
  /** @type {AddFact} */
  const add = (fact, value, hook, cls, stack) => {
    if (value !== null && value !== undefined && value !== "") rows.push([fact, value, hook || null, cls, stack ?? -1]);
  };
  if (Z.isShared(i)) return sharedFacts(i, add, rows);

  add("process", (l.pid[i] || "outside") + (l.nspid[i] ? ` (${l.nspid[i]} in its PID namespace)` : ""));
  add("command", Z.text(l.command[i]), "exec");
  add("name", Z.text(l.comm[i]), "fork");
  add("control group", Z.text(l.cgroup[i]));
  add("forked", join(Z.instant(l.fork[i]), by(Z.text(l.forker[i]))), "fork");
  add("child of", Z.text(l.above[i]));
  add("forked at", Z.site(l.forkSite[i]), "fork", "site", l.forkStack[i]);
  for (const [ns, file] of Z.d.execs[i] || []) add("exec", join(Z.instant(ns), Z.text(file)), "exec");
  for (const number of Z.joinsFor.get(i) || []) addJoin(add, number);
  if (l.exit[i] !== null) add("exit", join(Z.instant(l.exit[i]), Z.text(l.ended[i])), "exit");
  if (l.zombie[i] !== null) add("zombie", (l.flags[i] & 1 ? "≤ " : "") + Z.instant(l.zombie[i]), "zombie");
  else if (Z.foundDead(i)) add("zombie", "since before we looked");
  for (const [ns, from, to, , kind, whileZombie, exact] of Z.d.reparents[i] || []) {
    const words = `${Z.text(from)} → ${Z.text(kind)} ${Z.text(to)}${whileZombie ? ", while a zombie" : ""}`;
    add("reparented", join((exact ? "" : "≤ ") + Z.instant(ns), words), "reparent");
  }
  addMeanwhile(i, add);
  if (l.reap[i] !== null) {
    add("reaped", join((l.flags[i] & 2 ? "≤ " : "") + Z.instant(l.reap[i]), "by " + Z.reaperWords(i)), "reap");
    add("by the call", Z.callWords(i), "reap");
    add("reaped at", Z.site(l.reapSite[i]), "reap", "site", l.reapStack[i]);
    if (l.began[i] !== null) add("waited since", join(Z.instant(l.began[i]), `for ${Z.duration(l.reap[i] - l.began[i])}`), "wait");
  } else if (Z.state(i) === "zombie") add("reaped", "never: it still is a zombie", "reap", "bad");
  const interval = Z.interval(i);
  if (interval !== null || Z.state(i) === "reaped")
    add("zombie interval", Z.intervalWords(i), null, (interval ?? -1) >= Z.BRIEF ? "bad" : "");
  if (l.reap[i] !== null && l.exit[i] !== null) add("reap latency", (l.flags[i] & 2 ? "<= " : "") + Z.duration(l.reap[i] - l.exit[i]));
  add("not seen", Z.text(l.unseen[i]));
  return rows;
};

/** @param {(string | null)[]} words */
function join(...words) {
  return words.filter((word) => word && word !== "-").join(" ");
}

/** @param {string | null} actor */
function by(actor) {
  return actor ? "by " + actor : null;
}

/** @param {Lane} i @param {AddFact} add @param {Fact[]} rows */
function sharedFacts(i, add, rows) {
  const shared = Z.d.shared[i];
  add("processes", shared.count + " in one lane, forked at the same line");
  add("forked", by(Z.text(Z.d.lives.forker[i])), "fork");
  add("forked at", Z.site(Z.d.lives.forkSite[i]), "fork", "site");
  add("longest zombie interval", Z.duration(shared.longest), "reap");
  return rows;
}

/** @param {AddFact} add @param {number} number */
function addJoin(add, number) {
  const [waiter, tid, began, ended, returned, kind, timeout, , site, stack, blocked] = Z.d.joins[number];
  const words = [
    Z.text(kind) || "join",
    timeout === null ? null : `with a timeout of ${timeout} s`,
    waiter < 0 ? null : `by ${Z.d.lives.pid[waiter]}` + (tid && tid !== Z.d.lives.pid[waiter] ? ` (thread ${tid})` : ""),
    began === null ? null : Z.instant(began),
    ended === null ? "lasts on" : "to " + Z.instant(ended),
    blocked === null ? null : `blocked ${Z.duration(blocked)}`,
    Z.text(returned)?.replace("_", " "),
  ];
  add("waited for", words.filter(Boolean).join(", "), "wait");
  add("waited at", Z.site(site), "wait", "site", stack);
}

/** @param {Lane} i @param {AddFact} add */
function addMeanwhile(i, add) {
  const seen = Z.d.meanwhile[i];
  if (!seen) return;
  const [ns, thread, since, syscall, site, stack] = seen;
  const doing = syscall < 0 ? "was running" : "was blocked in " + Z.text(syscall);
  const long = since === null ? "" : ` since ${Z.instant(since)}`;
  add("meanwhile", `${Z.text(thread)} ${doing}${long} (looked at ${Z.instant(ns)})`, "wait");
  add("at", Z.site(site), "wait", "site", stack);
}

// The table itself. Stacks unfold.
Z.factsTable = function (i, withStacks) {
  const table = element("table", "facts");
  const body = table.appendChild(element("tbody"));
  for (const [fact, value, hook, cls, stack] of Z.facts(i)) {
    const row = body.appendChild(element("tr", cls || ""));
    const head = row.appendChild(element("th", "", fact));
    head.scope = "row";
    const cell = row.appendChild(element("td", "", value));
    if (withStacks && stack >= 0) cell.appendChild(stackOf(stack));
    const [name, precision] = (hook && Z.d.hooks[hook]) || [];
    const told = row.appendChild(element("td", "hook", name || ""));
    if (precision) told.title = precision;
  }
  return table;
};

/** @param {StackNumber} number */
function stackOf(number) {
  const [problem, frames] = Z.d.stacks[number];
  const details = element("details");
  details.appendChild(element("summary", "", `Stack of ${frames.length} frame${frames.length === 1 ? "" : "s"}`));
  const list = details.appendChild(element("ol"));
  for (const each of frames) {
    const frame = Z.frame(each);
    if (frame) list.appendChild(element("li", "", `${frame.fn}  ${frame.file}${frame.line === null ? "" : ":" + frame.line}`));
  }
  if (problem >= 0) details.appendChild(element("p", "", `Not whole: ${Z.text(problem)}`));
  return details;
}

// Nothing of the observed program ever becomes HTML: text is set as text.
/** @type {Page["element"]} */
function element(tag, cls, text) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  if (text !== undefined && text !== null) made.textContent = String(text);
  return made;
}
Z.element = element;
