// SPDX-License-Identifier: Apache-2.0
// Types of the HTML report's scripts, for `make check-js` alone: the data that
// zombiebpf/reports/html/page_data.py writes, the ids of page.html.j2, and the
// members of Z, by which the scripts share what they have.

type Ns = number; // nanoseconds after the start of the observation
type Lane = number; // a row of the timeline; negative: who was not observed
type TextNumber = number; // in `texts`; -1: none
type FrameNumber = number; // in `frames`; -1: none
type StackNumber = number; // in `stacks`; -1: none
type Context = CanvasRenderingContext2D;

interface Columns {
  pid: number[];
  start: string[];
  nspid: number[];
  comm: TextNumber[];
  command: TextNumber[];
  cgroup: TextNumber[];
  parent: Lane[];
  depth: number[];
  fork: (Ns | null)[];
  exit: (Ns | null)[];
  zombie: (Ns | null)[];
  reap: (Ns | null)[];
  ended: TextNumber[];
  flags: number[];
  by: number[];
  forker: TextNumber[];
  above: TextNumber[];
  forkSite: FrameNumber[];
  forkStack: StackNumber[];
  reaper: TextNumber[];
  reaperLane: (Lane | null)[];
  call: TextNumber[];
  kind: TextNumber[];
  began: (Ns | null)[];
  reapSite: FrameNumber[];
  reapStack: StackNumber[];
  unseen: TextNumber[];
}

// waiter, tid, began, ended, returned, kind, timeout in s, children, site, stack, blocked ns
type Join = [
  Lane, number | null, Ns | null, Ns | null, TextNumber, TextNumber, number | null, Lane[],
  FrameNumber, StackNumber, number | null,
];
// at, from, to, lane of to, kind, while a zombie, exact
type Reparent = [Ns, TextNumber, TextNumber, Lane | null, TextNumber, number, number];
// at, thread, blocked since, system call, site, stack
type Meanwhile = [Ns, TextNumber, Ns | null, TextNumber, FrameNumber, StackNumber];

interface Shared {
  count: number;
  running: number[];
  zombie: number[];
  longest: number;
}

interface PageData {
  long: number; // ns
  span: number; // ns
  started: string;
  lives: Columns;
  execs: Partial<Record<string, [Ns, TextNumber][]>>;
  reparents: Partial<Record<string, Reparent[]>>;
  meanwhile: Partial<Record<string, Meanwhile>>;
  shared: Record<string, Shared>;
  joins: Join[];
  outside: [number, TextNumber][];
  hooks: Partial<Record<string, [string, string]>>;
  frames: [TextNumber, TextNumber, number | null][];
  stacks: [TextNumber, FrameNumber[]][];
  texts: string[];
}

interface Frame {
  fn: string;
  file: string;
  line: number | null;
}

// fact, value, hook, class, stack
type Fact = [string, string | number, string | null, string | undefined, StackNumber];
type AddFact = (
  fact: string, value: string | number | null, hook?: string | null, cls?: string, stack?: StackNumber,
) => void;
type Lanes = [Lane, Lane]; // first and last
type Point = [number, number]; // px

interface View {
  t0: Ns;
  t1: Ns;
  lane: number;
  top: number;
  width: number;
  height: number;
  gutter: number;
  selected: Lane;
  hover: Lane;
  at: Ns | null;
}

interface Page {
  // data.js
  d: PageData;
  count: number;
  outside: number;
  end: Ns;
  first: Ns;
  last: Ns;
  BRIEF: number;
  BY: (string | null)[];
  long: Lane[];
  joinsOf: Map<Lane, number[]>;
  joinsFor: Map<Lane, number[]>;
  load(): void;
  text(number: TextNumber | null): string | null;
  frame(number: FrameNumber): Frame | null;
  site(number: FrameNumber): string | null;
  begin(lane: Lane): Ns;
  dead(lane: Lane): Ns | null;
  foundDead(lane: Lane): boolean;
  dies(lane: Lane): Ns | null;
  gone(lane: Lane): Ns;
  isShared(lane: Lane): boolean;
  state(lane: Lane): "reaped" | "running" | "zombie";
  interval(lane: Lane): number | null;
  isLong(lane: Lane): boolean;
  name(lane: Lane): string;
  // words.js
  duration(ns: number | null | undefined): string;
  instant(ns: Ns | null | undefined): string;
  intervalWords(lane: Lane): string;
  reaperWords(lane: Lane): string;
  callWords(lane: Lane): string | null;
  sentence(lane: Lane): string;
  // scale.js
  AXIS: number;
  EDGE: number;
  view: View;
  whole(): [Ns, Ns];
  x(t: Ns): number;
  timeAt(x: number): Ns;
  rows(): number;
  row(lane: Lane): number;
  y(row: number): number;
  middle(lane: Lane): number;
  rowAt(y: number): number;
  show(t0: Ns, t1: Ns): void;
  zoom(factor: number, t: Ns): void;
  pan(part: number): void;
  step(): number;
  base(step: number): Ns;
  tick(offset: number, step: number): string;
  // draw.js, links.js
  colors: Record<string, string>;
  readColors(ctx: Context): void;
  paint(ctx: Context): void;
  bar(lane: Lane): [number, number];
  paintForks(ctx: Context, lanes: Lanes): void;
  paintJoins(ctx: Context, lanes: Lanes): void;
  paintLinks(ctx: Context, lanes: Lanes): void;
  // facts.js
  facts(lane: Lane): Fact[];
  factsTable(lane: Lane, withStacks: boolean): HTMLTableElement;
  element<K extends keyof HTMLElementTagNameMap>(
    tag: K, cls?: string, text?: string | number | null,
  ): HTMLElementTagNameMap[K];
  // timeline.js
  box: HTMLElement;
  stats: { frames: number; first: number | null; longest: number };
  openTimeline(): void;
  measure(): void;
  redraw(): void;
  draw(): void;
  recolor(): void;
  stretch(factor: number): void;
  choose(lane: Lane, bringIntoView?: boolean): void;
  showLane(lane: Lane): void;
  zoomTo(lane: Lane): void;
  nextZombie(): void;
  // input.js, search.js, tables.js
  openInput(): void;
  matches: Set<Lane> | null;
  openSearch(): void;
  search(query: string): void;
  nextMatch(by: number): void;
  openTables(): void;
  filterTable(matches: Set<Lane> | null): void;
}

declare const Z: Page; // the page's script begins with it, then has each file in a block

interface Ids {
  canvas: HTMLCanvasElement;
  data: HTMLScriptElement;
  facts: HTMLElement;
  farther: HTMLButtonElement;
  flatter: HTMLButtonElement;
  found: HTMLElement;
  lanes: HTMLElement;
  nearer: HTMLButtonElement;
  next: HTMLButtonElement;
  "next-zombie": HTMLButtonElement;
  page: HTMLElement;
  "page-back": HTMLButtonElement;
  "page-on": HTMLButtonElement;
  previous: HTMLButtonElement;
  processes: HTMLTableElement;
  query: HTMLInputElement;
  room: HTMLElement;
  said: HTMLElement;
  taller: HTMLButtonElement;
  theme: HTMLButtonElement;
  timeline: HTMLElement;
  tip: HTMLElement;
  whole: HTMLButtonElement;
}

interface Document {
  getElementById<K extends keyof Ids>(id: K): Ids[K];
}
