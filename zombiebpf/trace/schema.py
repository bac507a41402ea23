# SPDX-License-Identifier: Apache-2.0
"""Define the tables and views of a trace file, and the numbers that identify one.

Tables are named in the singular; a reader compares their definitions word by word. Views
are made from them for people. docs/trace-format.md describes each column.
"""

from __future__ import annotations

import itertools

APPLICATION_ID = 0x7A627066  # "zbpf", at byte 68 of the file
SCHEMA_VERSION = 1  # PRAGMA user_version, at byte 60 of the file

TABLES = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "hook": "CREATE TABLE hook (fact TEXT PRIMARY KEY, hook TEXT, precision TEXT)",
    "lost": "CREATE TABLE lost (cause TEXT PRIMARY KEY, records INTEGER)",
    "text": "CREATE TABLE text (id INTEGER PRIMARY KEY, value)",
    "frame": "CREATE TABLE frame (id INTEGER PRIMARY KEY, function TEXT, file TEXT, line INTEGER)",
    "stack": "CREATE TABLE stack (id INTEGER PRIMARY KEY, problem TEXT)",
    "stack_frame": "CREATE TABLE stack_frame"
    " (stack INTEGER, depth INTEGER, frame INTEGER, PRIMARY KEY (stack, depth)) WITHOUT ROWID",
    "life": "CREATE TABLE life (id INTEGER PRIMARY KEY, pid INTEGER, start_ns INTEGER,"
    " comm TEXT, argv INTEGER, argv_cut INTEGER, pidns INTEGER, pidns_pid INTEGER,"
    " cgroup INTEGER, forker_pid INTEGER, forker_tid INTEGER, forker_comm TEXT,"
    " fork_ns INTEGER, fork_stack INTEGER, fork_site INTEGER, parent_pid INTEGER,"
    " parent_tid INTEGER, parent_comm TEXT, was_zombie INTEGER, exit_ns INTEGER,"
    " zombie_ns INTEGER, zombie_exact INTEGER, reap_ns INTEGER, reap_exact INTEGER,"
    " wait_status INTEGER, reaper_pid INTEGER, reaper_tid INTEGER, reaper_comm TEXT,"
    " reaped_by TEXT, reap_call INTEGER, reap_syscall TEXT, reap_options INTEGER,"
    " reap_began_ns INTEGER, reap_blocked_ns INTEGER, reap_kind TEXT, reap_stack INTEGER,"
    " reap_site INTEGER)",
    "exec": "CREATE TABLE exec"
    " (life INTEGER, n INTEGER, ns INTEGER, filename TEXT, PRIMARY KEY (life, n)) WITHOUT ROWID",
    "reparent": "CREATE TABLE reparent (life INTEGER, n INTEGER, ns INTEGER,"
    " from_pid INTEGER, from_tid INTEGER, from_comm TEXT,"
    " to_pid INTEGER, to_tid INTEGER, to_comm TEXT,"
    " kind TEXT, while_zombie INTEGER, exact INTEGER, PRIMARY KEY (life, n)) WITHOUT ROWID",
    "unseen": "CREATE TABLE unseen"
    " (life INTEGER, n INTEGER, field TEXT, reason INTEGER, PRIMARY KEY (life, n)) WITHOUT ROWID",
    "meanwhile": "CREATE TABLE meanwhile (life INTEGER PRIMARY KEY, ns INTEGER, pid INTEGER,"
    " tid INTEGER, comm TEXT, blocked_since_ns INTEGER, syscall TEXT, stack INTEGER,"
    " site INTEGER)",
    "wait": "CREATE TABLE wait (id INTEGER PRIMARY KEY, pid INTEGER, tid INTEGER,"
    " child_pid INTEGER, timeout_s REAL, began_ns INTEGER, ended_ns INTEGER, returned TEXT,"
    " kind TEXT, blocked_ns INTEGER, by_pid INTEGER, by_tid INTEGER, by_comm TEXT,"
    " stack INTEGER, site INTEGER)",
    "wait_child": "CREATE TABLE wait_child"
    " (wait INTEGER, n INTEGER, pid INTEGER, start_ns INTEGER, PRIMARY KEY (wait, n))"
    " WITHOUT ROWID",
}


def _columns(sql: str) -> tuple[str, ...]:
    parts = itertools.takewhile(
        lambda part: not part.startswith("PRIMARY"), sql.partition("(")[2].split(", ")
    )
    return tuple(part.split()[0].rstrip(")") for part in parts)


COLUMNS = {table: _columns(sql) for table, sql in TABLES.items()}

# A source line as FILE:LINE.
_SITE = "(SELECT file || ':' || ifnull(line, '?') FROM frame WHERE id = {})"
_META = "(SELECT value FROM meta WHERE key = '{}')"
_WALL = f"{_META.format('started_wall')} + ({{}} - {_META.format('started_ns')}) / 1e9"
_CLOCK = f"strftime('%Y-%m-%dT%H:%M:%fZ', {_WALL}, 'unixepoch')"

_ENDED = _META.format("ended_ns")

VIEWS = {
    "lives": f"""CREATE VIEW lives AS SELECT id, pid, start_ns, comm,
 (SELECT value FROM text WHERE id = argv) AS argv,
 CASE WHEN reap_ns IS NOT NULL THEN 'reaped' WHEN zombie_ns IS NOT NULL OR was_zombie
  THEN 'zombie'
  ELSE 'running' END AS state,
 {_CLOCK.format("fork_ns")} AS forked_at, forker_pid, forker_comm,
 {_SITE.format("fork_site")} AS fork_site,
 {_CLOCK.format("exit_ns")} AS exited_at,
 CASE WHEN wait_status & 127 = 0 THEN wait_status >> 8 & 255 END AS exit_status,
 nullif(wait_status & 127, 0) AS signal,
 (ifnull(reap_ns, {_ENDED}) - zombie_ns) / 1e6 AS zombie_ms,
 (reap_ns - exit_ns) / 1e6 AS reap_latency_ms,
 reaped_by, reaper_pid, reaper_comm, reap_syscall, reap_kind,
 {_SITE.format("reap_site")} AS reap_site,
 (SELECT count(*) FROM reparent WHERE life = life.id AND kind <> 'thread') AS adoptions,
 (SELECT value FROM text WHERE id = cgroup) AS cgroup, pidns, pidns_pid,
 fork_ns, exit_ns, zombie_ns, reap_ns, fork_stack, reap_stack
 FROM life""",
    "zombies": """CREATE VIEW zombies AS SELECT pid, comm, zombie_ms, forker_pid, forker_comm,
 fork_site, exited_at FROM lives WHERE state = 'zombie' ORDER BY zombie_ms DESC""",
    "latencies": """CREATE VIEW latencies AS
 WITH one AS (
  SELECT 'zombie interval' AS what, reap_ns - zombie_ns AS ns FROM life
   WHERE reap_ns - zombie_ns IS NOT NULL
  UNION ALL SELECT 'reap latency', reap_ns - exit_ns FROM life
   WHERE reap_ns - exit_ns IS NOT NULL),
 ranked AS (SELECT what, ns, row_number() OVER (PARTITION BY what ORDER BY ns) AS rank,
  count(*) OVER (PARTITION BY what) AS n FROM one)
 SELECT what, n AS count, min(ns) / 1e6 AS min_ms,
  min(CASE WHEN rank * 100 >= n * 50 THEN ns END) / 1e6 AS p50_ms,
  min(CASE WHEN rank * 100 >= n * 90 THEN ns END) / 1e6 AS p90_ms,
  min(CASE WHEN rank * 100 >= n * 99 THEN ns END) / 1e6 AS p99_ms,
  max(ns) / 1e6 AS max_ms
 FROM ranked GROUP BY what""",
    "fork_sites": f"""CREATE VIEW fork_sites AS SELECT site, function, count(*) AS forks,
 sum(state = 'zombie') AS zombies, sum(state = 'running') AS running,
 max(zombie_ms) AS longest_zombie_ms, avg(zombie_ms) AS mean_zombie_ms
 FROM (SELECT {_SITE.format("l.fork_site")} AS site, f.function AS function,
  lives.state AS state, lives.zombie_ms AS zombie_ms
  FROM life AS l JOIN lives ON lives.id = l.id LEFT JOIN frame AS f ON f.id = l.fork_site)
 GROUP BY site, function ORDER BY forks DESC""",
    "joins": f"""CREATE VIEW joins AS SELECT id, kind, pid, tid,
 ifnull(child_pid, (SELECT group_concat(pid, ' ') FROM wait_child WHERE wait = wait.id))
  AS child_pid,
 {_CLOCK.format("began_ns")} AS began_at, (ended_ns - began_ns) / 1e6 AS lasted_ms,
 blocked_ns / 1e6 AS blocked_ms, timeout_s, returned, by_pid, by_comm,
 {_SITE.format("site")} AS site, began_ns, ended_ns, stack FROM wait""",
    "stacks": """CREATE VIEW stacks AS SELECT s.id AS id, s.problem AS problem, sf.depth AS depth,
 f.function AS function, f.file AS file, f.line AS line
 FROM stack AS s LEFT JOIN stack_frame AS sf ON sf.stack = s.id
 LEFT JOIN frame AS f ON f.id = sf.frame ORDER BY s.id, sf.depth""",
}
