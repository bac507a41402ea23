# SPDX-License-Identifier: Apache-2.0
"""Stacks -> kinds, and rules files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.unit.life_builders import APP, BEGAN, MS, SYSTEMD, ended, life, zombie
from tests.unit.life_builders import autoreaped as autoreaped_life
from tests.unit.stack_builders import JOIN, MP_WAIT, POLL, REAPING_JOIN, frame, stack, unqualified
from tools.rules import SOURCE, TARGET, as_python
from zombiebpf.attribution.attribution import Attribution
from zombiebpf.attribution.frames import OWN, origin
from zombiebpf.attribution.rules import built_in
from zombiebpf.attribution.rules.matching import Rules
from zombiebpf.attribution.rules.parse import RulesError, parse
from zombiebpf.attribution.rules.rule import Pattern, Rule
from zombiebpf.lifecycle.builder import LifeBuilder
from zombiebpf.model.life import Actor, Execution, Life, LifeRow, ReapCall
from zombiebpf.model.stack import Frame, Stack
from zombiebpf.observe.rule_files import load_rules

RULES = load_rules()
CALLS = Path(__file__).with_name("reaping_calls.py")
INTERNAL_POLL = "subprocess:Popen._internal_poll"
MANAGER = "concurrent.futures.process:_ExecutorManagerThread"
BILLIARD = "@billiard.popen_fork:Popen.poll"
LOKY = "@joblib.externals.loky.backend.popen_loky_posix:Popen.poll"


def kind(whole: Stack) -> str | None:
    rule = RULES.match(whole).rule
    return None if rule is None else rule.kind


KINDS = [
    ("join", [*REAPING_JOIN, "main"]),
    ("atexit", [*REAPING_JOIN, "multiprocessing.util:_exit_function"]),
    ("start -> _cleanup", [POLL, "multiprocessing.process:_cleanup",
                           "multiprocessing.process:BaseProcess.start", "main"]),
    ("atexit", [POLL, "multiprocessing.process:_cleanup", "multiprocessing.process:active_children",
                "multiprocessing.util:_exit_function"]),
    ("join(timeout)", [*REAPING_JOIN, "multiprocessing.managers:BaseManager._finalize_manager",
                       "multiprocessing.util:Finalize.__call__", "main"]),
    ("executor manager", [*REAPING_JOIN, f"{MANAGER}.join_executor_internals", f"{MANAGER}.run",
                          "threading:Thread._bootstrap_inner", "threading:Thread._bootstrap"]),
    ("resource_tracker", ["multiprocessing.resource_tracker:ResourceTracker.ensure_running",
                          "multiprocessing.resource_tracker:ResourceTracker.getfd", "main"]),
    ("resource_tracker", ["multiprocessing.semaphore_tracker:SemaphoreTracker.ensure_running"]),
    ("forkserver", ["multiprocessing.forkserver:main", "/<string>:<module>:1"]),
    ("gunicorn arbiter", ["@gunicorn.arbiter:Arbiter.reap_workers",
                          "@gunicorn.arbiter:Arbiter.run", "main"]),
    ("uvicorn supervisor", [POLL, "multiprocessing.process:BaseProcess.is_alive",
                            "@uvicorn.supervisors.multiprocess:Multiprocess.keep_subprocess_alive",
                            "main"]),
    ("billiard", [BILLIARD, "@billiard.process:BaseProcess.exitcode",
                  "@billiard.pool:Pool._join_exited_workers", "threading:Thread.run"]),
    ("celery", [BILLIARD, "@billiard.process:BaseProcess.join", "@billiard.pool:Pool.join",
                "@celery.concurrency.prefork:TaskPool.on_stop", "main"]),
    ("loky", [LOKY, "multiprocessing.process:BaseProcess.exitcode",
              "@joblib.externals.loky.process_executor:_ExecutorManagerThread.run"]),
    ("os.wait*", ["reaper", "main"]),
    ("os.wait*", ["@somebody.pool:collect", "main"]),
    # the user's own code between: what called it says nothing of what it calls
    ("join", [*REAPING_JOIN, "cleanup", "multiprocessing.util:Finalize.__call__",
              "multiprocessing.util:_exit_function"]),
    ("os.wait*", ["task", "@celery.app.trace:build_tracer", "@billiard.pool:Worker.workloop"]),
    ("subprocess.run", ["subprocess:Popen._wait", "subprocess:Popen.wait", "subprocess:run",
                        "@somebody.tools:git", "@billiard.process:BaseProcess._bootstrap",
                        "@billiard.popen_fork:Popen._launch", "main"]),
    ("subprocess._cleanup", [INTERNAL_POLL, "subprocess:_cleanup", "subprocess:Popen.__init__",
                             "subprocess:run", "main"]),
    # a file of the user's with a library's name is the user's
    ("os.wait*", ["/srv/multiprocessing/popen_fork.py:Popen.poll:7",
                  "/srv/multiprocessing/process.py:BaseProcess.join:7"]),
    ("signal handler", ["on_child", "selectors:EpollSelector.select", "main"]),
    ("signal handler", ["reap_all", "on_child", "threading:Condition.wait", "main"]),
    ("os.wait*", ["Pool.__del__", "threading:Condition.wait", "main"]),  # or a destructor
    ("os.wait*", ["App.Pool.__del__", "threading:Condition.wait", "main"]),
    ("os.wait*", ["on_child", "main"]),  # it cannot be told
    ("os.wait*", ["handle", "asyncio.events:Handle._run", "main"]),  # the loop calls anybody
    ("interpreter shutdown", []),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "frames"), KINDS, ids=lambda each: str(each)[:60])
def test_kinds(expected: str, frames: list[str]) -> None:
    assert kind(stack(*frames)) == expected


@pytest.mark.parametrize(("expected", "frames"), KINDS, ids=lambda each: str(each)[:60])
def test_kinds_without_qualified_names(expected: str, frames: list[str]) -> None:
    assert kind(unqualified(stack(*frames))) == expected


def test_what_an_incomplete_stack_cannot_tell() -> None:
    """join() may have been called by anything; that it is the executor's is seen."""
    assert kind(stack(*REAPING_JOIN, problem="cut")) is None
    assert kind(stack(*REAPING_JOIN, "main", problem="cut")) == "join"
    manager = stack(*REAPING_JOIN, f"{MANAGER}.run", problem="cut")
    assert kind(manager) == "executor manager"
    assert kind(stack(problem="unreadable")) is None


# What the library's own sources do, in the Python that runs this.
REAL = [
    ("join", "join", "join"),
    ("join_0", "join", "join_0"),
    ("start", "start -> _cleanup", "started"),
    ("active_children", "active_children", "active_children"),
    ("is_alive", "is_alive", "is_alive"),
    ("exitcode", "exitcode", "exitcode"),
    ("close", "close", "close"),
    ("at_exit", "atexit", None),
    ("pool_worker", "Pool worker handler", None),
    ("pool_terminate", "Pool.terminate", "pool_terminate"),
    ("executor", "executor manager", None),
    ("popen_wait", "Popen.wait", "popen_wait"),
    ("popen_wait_timeout", "Popen.wait", "popen_wait_timeout"),
    ("popen_poll", "Popen.poll", "popen_poll"),
    ("popen_communicate", "Popen.communicate", "popen_communicate"),
    ("popen_del", "Popen.__del__", "popen_del"),
    ("popen_cleanup", "subprocess._cleanup", "popen_cleanup"),
    ("failed_exec", "Popen.__init__", "failed_exec"),
    ("run", "subprocess.run", "run"),
    ("call", "subprocess.call", "call"),
    ("check_output", "subprocess.check_output", "check_output"),
    ("os_popen", "os.popen", "os_popen"),
    ("os_waitpid", "os.wait*", "os_waitpid"),
    ("os_spawn", "os.spawn*", "os_spawn"),
    ("handler", "signal handler", "on_child"),
]


@pytest.mark.parametrize(("call", "expected", "user"), REAL, ids=[each[0] for each in REAL])
def test_the_librarys_own_calls(call: str, expected: str, user: str | None) -> None:
    ran = subprocess.run(
        [sys.executable, str(CALLS), call], capture_output=True, text=True, timeout=60, check=True
    )
    reaps = [Stack(tuple(Frame(*each) for each in reap)) for reap in json.loads(ran.stdout)]
    assert [kind(each) for each in reaps] == [expected]
    site = RULES.match(reaps[0]).user_frame
    assert (None if site is None else site.function.rsplit(".", 1)[-1]) == user
    assert [kind(unqualified(each)) for each in reaps] == [expected]


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("/usr/lib/python3.11/multiprocessing/process.py", "multiprocessing.process"),
        ("/opt/py/lib/python3.13t/asyncio/__init__.py", "asyncio"),
        ("/usr/lib/python311.zip/os.py", "os"),
        ("/srv/venv/lib64/python3.9/site-packages/gunicorn/arbiter.py", "gunicorn.arbiter"),
        ("/usr/lib/python3/dist-packages/billiard/pool.py", "billiard.pool"),
        ("<frozen importlib._bootstrap>", "importlib._bootstrap"),
        (OWN + "scenario/workload/story.py", "zombiebpf.scenario.workload.story"),
    ],
)
def test_what_is_not_the_users(file: str, module: str) -> None:
    assert origin(file) == (module, False)


@pytest.mark.parametrize(
    "file",
    ["app.py", "/srv/app.py", "subprocess.py", "<stdin>", "<string>", "/srv/lib/python/app.py",
     "/home/猫/multiprocessing/process.py", "/srv/python3.11/app.py"],
)  # fmt: skip
def test_what_is_the_users(file: str) -> None:
    assert origin(file).user


def test_the_line_is_the_innermost_of_the_users() -> None:
    whole = stack(*REAPING_JOIN, "helper:9", "main:50")
    assert RULES.match(whole).user_frame == frame("helper:9")
    assert RULES.match(stack(*REAPING_JOIN)).user_frame is None
    launched = stack("multiprocessing.forkserver:main")
    launched = Stack((*launched.frames, Frame("<module>", "<string>", 1)))
    assert RULES.match(launched).user_frame is None
    own = Stack((*stack("main").frames, Frame("<module>", "<string>", 1)))
    assert RULES.match(own).user_frame == frame("main")


def builder_of(life: Life) -> LifeBuilder:
    builder = LifeBuilder()
    builder.rare = True
    for name, value in LifeRow.of(life)._asdict().items():
        setattr(builder, name, value)
    return builder


def reaped(whole: Optional[Stack], options: int = 0, **fields: Any) -> LifeBuilder:
    """A process that was reaped with that stack, before its record is made."""
    call = ReapCall("wait4", options, BEGAN, 5 * MS, stack=whole)
    return builder_of(ended(7, reap_call=call, **fields))


def test_a_life_is_completed_and_twice_does_no_harm() -> None:
    subject = reaped(stack(*REAPING_JOIN, "main:50"), fork_stack=stack(*REAPING_JOIN, "go:9"))
    attribution = Attribution(RULES)
    for _ in range(2):
        attribution.complete(subject)
        assert (subject.reap_kind, subject.reap_site) == ("join", frame("main:50"))
        assert subject.fork_site == frame("go:9")


def test_who_is_not_python_and_who_is_not_known() -> None:
    attribution = Attribution(RULES)
    assert attribution.reap_kind(reaped(None)) == "not Python"
    assert attribution.reap_kind(reaped(None, unseen={"reap_call.stack": "lost"})) is None
    assert attribution.reap_kind(builder_of(autoreaped_life(7))) == "kernel"
    assert attribution.reap_kind(builder_of(life(7))) is None
    assert attribution.reap_kind(builder_of(zombie(7))) is None
    assert attribution.reap_kind(reaped(Stack((), "unreadable"))) is None


def test_the_observer_reaps_only_the_command_that_it_started() -> None:
    watcher, outside = Actor(41229, 41229, "zombiebpf"), Actor(0, 0, "")
    attribution = Attribution(RULES, observer=watcher.pid)
    assert attribution.reap_kind(reaped(None, reaper=watcher)) == "zombiebpf"
    assert attribution.reap_kind(reaped(None, reaper=APP)) == "not Python"
    for reaper in (SYSTEMD, outside):
        assert Attribution(RULES).reap_kind(reaped(None, reaper=reaper)) == "not Python"


def test_join_with_a_timeout() -> None:
    joined = stack(*REAPING_JOIN, "main")
    assert Attribution(RULES).reap_kind(reaped(joined, options=1)) == "join(timeout)"
    attribution = Attribution(RULES, had_timeout=lambda pid, start_ns: pid == 7)
    assert attribution.reap_kind(reaped(joined)) == "join(timeout)"
    at_exit = stack(POLL, MP_WAIT, JOIN, "multiprocessing.util:_exit_function")
    assert attribution.reap_kind(reaped(at_exit)) == "atexit"


def test_os_system_forks_and_reaps_in_one_line() -> None:
    here, there = stack("main:5"), stack("main:6")
    attribution = Attribution(RULES)
    shell, other = [Execution(BEGAN, "/bin/sh")], [Execution(BEGAN, "/bin/ls")]
    assert attribution.reap_kind(reaped(here, fork_stack=here, execs=shell)) == "os.system"
    assert attribution.reap_kind(reaped(here, fork_stack=there, execs=shell)) == "os.wait*"
    assert attribution.reap_kind(reaped(here, fork_stack=here, execs=other)) == "os.wait*"
    assert attribution.reap_kind(reaped(here, fork_stack=here)) == "os.wait*"


def test_the_users_rules_go_first(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.yaml", tmp_path / "theirs.yaml"
    mine.write_text('rules: [{kind: my pool, stack: ["*app:collect"]}]', encoding="utf-8")
    theirs.write_text('rules: [{kind: b, stack: ["*:collect"]}, {kind: c, stack: ["*:other"]}]',
                      encoding="utf-8")  # fmt: skip
    rules = load_rules([str(mine)], {"ZOMBIEBPF_RULES": str(theirs)})
    kinds = [rules.match(stack(name)).rule for name in ("collect", "other", "main")]
    assert [each and each.kind for each in kinds] == ["my pool", "c", "os.wait*"]


def rules_of(text: str) -> Rules:
    return Rules(*parse(text, "rules.yaml"))


# pattern, the function of a frame that matches it, one of a frame that does not
PATTERNS = [
    ("multiprocessing.pool:Pool.join", "multiprocessing.pool:Pool.join",
     "multiprocessing.pool:Process.join"),
    ("multiprocessing.pool:Pool.*", "multiprocessing.pool:Pool.join",
     "multiprocessing.pool:Process.join"),
    ("multiprocessing.pool:Pool.Inner.join", "multiprocessing.pool:join",
     "multiprocessing.pool:Inner.join"),  # no qualified name: the last component decides
    ("multiprocessing.*:wait", "multiprocessing.connection:wait", "selectors:wait"),
    ("selectors:select | asyncio:run", "@asyncio:run", "@asyncio:select"),
    ("Xlib.display:Display.wait", "@Xlib.display:Display.wait", "@lib.display:Display.wait"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "fits", "differs"), PATTERNS, ids=[p[0] for p in PATTERNS])
def test_a_pattern(pattern: str, fits: str, differs: str) -> None:
    rules = rules_of(f'rules: [{{kind: x, stack: ["{pattern}"]}}]')
    assert rules.match(stack(fits)).rule is not None
    assert rules.match(stack(differs)).rule is None


def test_a_star_matches_a_newline_in_a_file_name() -> None:
    rules = rules_of('rules: [{kind: x, stack: ["*jobs:collect"]}]')
    assert rules.match(Stack((Frame("collect", "/srv/a\nb/jobs.py", 7),))).rule is not None


@pytest.mark.parametrize(
    ("patterns", "frames", "holds"),
    [
        ('"os:a", "os:b"', ["os:a", "os:b"], True),
        ('"os:a", "os:b"', ["os:x", "os:a", "os:x", "os:b"], True),
        ('"os:a", "os:b"', ["os:b", "os:a"], False),
        ('"os:a", "os:b"', ["os:a"], False),
        ('"os:a", "< os:b"', ["os:x", "os:a", "os:b"], True),
        ('"os:a", "< os:b"', ["os:a", "os:x", "os:b"], False),
    ],
)
def test_the_patterns_of_a_rule_hold_in_their_order(
    patterns: str, frames: list[str], holds: bool
) -> None:
    rule = rules_of(f"rules: [{{kind: x, stack: [{patterns}]}}]").match(stack(*frames)).rule
    assert (rule is not None) == holds


def test_the_users_line_is_there_without_a_rule_that_holds() -> None:
    rules = rules_of('rules: [{kind: x, stack: ["os:a"]}]')
    assert rules.match(stack("os:b", "main:50")) == (None, None, frame("main:50"))


def test_rules_about_the_child_need_the_child() -> None:
    """A stack alone matches neither rule; each of them holds of the child that it describes."""
    rules = rules_of("""rules:
    - {kind: forks itself, forked: true}
    - {kind: shell, ran: /bin/sh, stack: ["*app:main"]}
    """)
    here, there = stack("main:5"), stack("main:6")
    assert rules.match(here).rule is None
    attribution = Attribution(rules)
    shell = [Execution(BEGAN, "/bin/sh")]
    assert attribution.reap_kind(reaped(here, fork_stack=here)) == "forks itself"
    assert attribution.reap_kind(reaped(here, fork_stack=there, execs=shell)) == "shell"
    assert attribution.reap_kind(reaped(here, fork_stack=there)) is None


def test_rules_about_the_child_stand_in_the_same_order(tmp_path: Path) -> None:
    """A user's rule on the stack goes before the built-in one of os.system()."""
    mine = tmp_path / "mine.yaml"
    mine.write_text('rules: [{kind: my pool, stack: ["*app:main"]}]', encoding="utf-8")
    shell = [Execution(BEGAN, "/bin/sh")]
    attribution = Attribution(load_rules([str(mine)], {}))
    ours, other = stack("main:5"), stack("helper:7")
    assert attribution.reap_kind(reaped(ours, fork_stack=ours, execs=shell)) == "my pool"
    assert attribution.reap_kind(reaped(other, fork_stack=other, execs=shell)) == "os.system"


def test_a_rule_about_the_child_asks_for_its_stack_too() -> None:
    rules = rules_of('rules: [{kind: my shell, stack: ["*jobs:run"], ran: /bin/ls}]')
    listing = [Execution(BEGAN, "/bin/ls")]
    attribution = Attribution(rules)
    assert attribution.reap_kind(reaped(stack("helper"), execs=listing)) is None
    there = stack("/srv/jobs.py:run:5")
    assert attribution.reap_kind(reaped(there, execs=listing)) == "my shell"


def test_frames_whose_first_variable_is_the_object_of_a_child() -> None:
    rules = rules_of("""
    rules: [{kind: x, stack: []}]
    objects: ["ourpool.worker:Worker.*", "*app:Job.run"]
    """)
    whole = stack(
        "os:a", "@ourpool.worker:Worker.wait", "@ourpool.worker:Log.add", "Job.run", "main"
    )
    assert rules.objects(whole) == (1, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("yes", True), ("on", True), ("True", True), ("ON", True),
     ("false", False), ("no", False), ("off", False)],
)  # fmt: skip
def test_a_flag(text: str, value: bool) -> None:
    (rule,) = parse(f"rules: [{{kind: x, stack: [], many: {text}}}]", "rules.yaml").rules
    assert rule.many is value


EXAMPLE = '("multiprocessing.pool:Pool.join")'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "1: nothing stands in it (rules: [...])"),
        ("rules: [", "1: this is no YAML: expected the node content, but found '<stream end>'"),
        ("rules:\n\t- kind: x",
         "2: this is no YAML: found character '\\t' that cannot start any token"),
        ("rules:\n- kind: a\x01b",
         "1: this is no YAML: unacceptable character #x0001: special characters are not allowed"),
        ("[" * 3000, "1: this is no YAML of rules: it is nested too deeply"),
        ("\nrule: []", "2: the file has no key 'rule' (rules?)"),
        ("\nkind: x", "2: the file has no key 'kind' (rules, objects)"),
        ("? [rules]\n: []", "1: the file has no key '?' (rules, objects)"),
        ("rules: []", "1: it has no rules (rules: [...])"),
        ("objects: [a:b]", "1: it has no rules (rules: [...])"),
        ("rules: x", "1: rules must be a list ([module:function])"),
        ("\nobjects: a:b", "2: objects must be a list ([module:function])"),
        ("objects: [a.b]", f"1: objects: 'a.b' is no module:function {EXAMPLE}"),
        ("rules:\n- x", "2: a rule must be a mapping (key: value)"),
        ("rules:\n- kind: x", "2: a rule lacks the key 'stack' (stack: [module:function])"),
        ("rules:\n- stack: [a:b]", "2: a rule lacks the key 'kind' (kind: what it is called)"),
        ("rules:\n- kind: x\n  stack: a:b", "3: stack must be a list ([module:function])"),
        ("rules:\n- kind: x\n  kind: y", "3: 'kind' stands twice in a rule"),
        ("rules:\n- kind: x\n  stak: []", "3: a rule has no key 'stak' (stack?)"),
        ("rules:\n- kind: []", "2: kind must be text"),
        ("rules:\n- kind: x\n  join: ' '", "3: join must be text"),
        ("rules:\n- kind: x\n  stack: [[]]", "3: stack must be text"),
        ("rules:\n- {kind: x, stack: [], many: 3}", "2: many must be true or false"),
        ("rules:\n- {kind: x, stack: [], call: a:b}",
         "2: 'call' without 'join' means nothing (join: its name)"),
        ("rules:\n- {kind: x, join: y, call: a}", f"2: call: 'a' is no module:function {EXAMPLE}"),
        ("- x", "1: the file must be a mapping (key: value)"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_by_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RulesError) as raised:
        load_rules([str(file)])
    assert str(raised.value) == f"{file}:{complaint}"


@pytest.mark.parametrize("pattern", ["a.b", "a", "a:", ":b", "a:b:c", "a b:c", "a: b", "x:y | a"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(RulesError, match=f"stack: '{pattern.split(' | ')[-1]}' is no module:func"):
        parse(f'rules: [{{kind: x, stack: ["{pattern}"]}}]', "rules.yaml")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(RulesError, match="the rules cannot be read: No such file"):
        load_rules(["/nonexistent.yaml"])


def plain(value: Any) -> Any:
    """Rules and patterns as tuples and texts, which can be compared."""
    if isinstance(value, Pattern):
        return value.text
    if isinstance(value, Rule):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def test_the_built_in_rules_are_those_of_the_file() -> None:
    """`make rules` writes them."""
    assert TARGET.read_text(encoding="utf-8") == as_python()
    parsed = parse(SOURCE.read_text(encoding="utf-8"), "rules.yaml")
    assert len(parsed.rules) > 40
    assert plain(built_in.RULES) == plain(parsed.rules)
    assert plain(built_in.OBJECTS) == plain(parsed.objects)
