# SPDX-License-Identifier: Apache-2.0
"""The rules of rules.yaml, where they are described. Written by `make rules`; do not edit."""

# ruff: noqa: E501

from __future__ import annotations

from zombiebpf.attribution.rules.rule import Pattern, Rule

# fmt: off
RULES = (
    Rule(kind="Popen.__del__", stack=(Pattern("subprocess:Popen._internal_poll"), Pattern("subprocess:Popen.__del__"),)),
    Rule(kind="subprocess._cleanup", stack=(Pattern("subprocess:Popen._internal_poll"), Pattern("subprocess:_cleanup"),)),
    Rule(kind="start -> _cleanup", stack=(Pattern("multiprocessing.process:_cleanup"), Pattern("multiprocessing.process:BaseProcess.start"),)),
    Rule(kind="start -> _cleanup", stack=(Pattern("billiard.process:_cleanup"), Pattern("billiard.process:BaseProcess.start"),)),
    Rule(kind="atexit", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.util:_exit_function"),), join="atexit", call=Pattern("multiprocessing.process:BaseProcess.join")),
    Rule(kind="interpreter shutdown", stack=(), empty=True),
    Rule(kind="resource_tracker", stack=(Pattern("multiprocessing.resource_tracker:* | multiprocessing.semaphore_tracker:* | loky.backend.*resource_tracker:* | joblib.externals.loky.backend.*resource_tracker:*"),), join="resource_tracker", call=Pattern("multiprocessing.resource_tracker:ResourceTracker._stop*"), helper=True),
    Rule(kind="forkserver", stack=(Pattern("multiprocessing.forkserver:main | multiprocessing.forkserver:ForkServer.*"),), join="forkserver", call=Pattern("multiprocessing.forkserver:ForkServer._stop_unlocked"), helper=True),
    Rule(kind="Pool worker handler", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.pool:Pool._join_exited_workers"),)),
    Rule(kind="Pool.terminate", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.pool:Pool._terminate_pool"),), join="Pool.terminate", call=Pattern("multiprocessing.process:BaseProcess.join")),
    Rule(kind="Pool.join", stack=(Pattern("multiprocessing.pool:Pool.join"),), join="Pool.join", many=True),
    Rule(kind="executor manager", stack=(Pattern("concurrent.futures.process:_ExecutorManagerThread.* | concurrent.futures.process:_queue_management_worker"),), join="executor manager", call=Pattern("multiprocessing.process:BaseProcess.join")),
    Rule(kind="executor.shutdown", stack=(Pattern("concurrent.futures.process:ProcessPoolExecutor.shutdown"),), join="executor.shutdown", many=True),
    Rule(kind="loky", stack=(Pattern("loky.process_executor:ProcessPoolExecutor.shutdown | joblib.externals.loky.process_executor:ProcessPoolExecutor.shutdown"),), join="loky executor.shutdown", many=True),
    Rule(kind="loky", stack=(Pattern("loky.backend.popen_loky_posix:Popen.* | joblib.externals.loky.backend.popen_loky_posix:Popen.*"),), join="loky Process.join", call=Pattern("multiprocessing.process:BaseProcess.join")),
    Rule(kind="asyncio child watcher (pidfd)", stack=(Pattern("asyncio.unix_events:*PidfdChildWatcher._do_wait"),), join="asyncio child watcher (pidfd)", only_waits=True),
    Rule(kind="asyncio child watcher (thread)", stack=(Pattern("asyncio.unix_events:*ThreadedChildWatcher._do_waitpid"), Pattern("< threading:Thread.run"),), join="asyncio child watcher (thread)", call=Pattern("asyncio.unix_events:*ThreadedChildWatcher._do_waitpid"), only_waits=True),
    Rule(kind="asyncio child watcher (safe)", stack=(Pattern("asyncio.unix_events:SafeChildWatcher._do_waitpid"), Pattern("< asyncio.unix_events:SafeChildWatcher._do_waitpid_all"), Pattern("< asyncio.unix_events:BaseChildWatcher._sig_chld"), Pattern("< asyncio.events:Handle._run"),)),
    Rule(kind="asyncio child watcher (multi loop)", stack=(Pattern("asyncio.unix_events:MultiLoopChildWatcher._do_waitpid"), Pattern("< asyncio.unix_events:MultiLoopChildWatcher._do_waitpid_all"), Pattern("< asyncio.unix_events:MultiLoopChildWatcher._sig_chld"),)),
    Rule(kind="asyncio child watcher (fast)", stack=(Pattern("asyncio.unix_events:FastChildWatcher._do_waitpid_all"), Pattern("< asyncio.unix_events:BaseChildWatcher._sig_chld"),)),
    Rule(kind="asyncio child watcher", stack=(Pattern("asyncio.unix_events:*ChildWatcher._do_waitpid*"),)),
    Rule(kind="asyncio transport.close", stack=(Pattern("subprocess:Popen.poll"), Pattern("asyncio.base_subprocess:BaseSubprocessTransport.close"),)),
    Rule(kind="gunicorn arbiter", stack=(Pattern("gunicorn.arbiter:Arbiter.reap_workers | gunicorn.arbiter:Arbiter.reap_dirty_arbiter | gunicorn.dirty.arbiter:DirtyArbiter.reap_workers | gunicorn.dirty.arbiter:DirtyArbiter._cleanup_sync"),)),
    Rule(kind="uvicorn supervisor", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("uvicorn.supervisors.*:*"),), join="uvicorn supervisor", call=Pattern("multiprocessing.process:BaseProcess.join")),
    Rule(kind="celery", stack=(Pattern("billiard.popen_*:Popen.*"), Pattern("celery.*:*"),), join="celery", call=Pattern("billiard.process:BaseProcess.join")),
    Rule(kind="billiard", stack=(Pattern("billiard.popen_*:Popen.*"),), join="billiard Process.join", call=Pattern("billiard.process:BaseProcess.join")),
    Rule(kind="socketserver.ForkingMixIn", stack=(Pattern("socketserver:ForkingMixIn.collect_children"),)),
    Rule(kind="Popen.__init__", stack=(Pattern("subprocess:Popen._execute_child"),)),
    Rule(kind="subprocess.check_output", stack=(Pattern("subprocess:Popen.wait | subprocess:Popen.communicate | subprocess:Popen.poll"), Pattern("subprocess:check_output"),), join="subprocess.check_output", needs_caller=True, goes_on=True),
    Rule(kind="subprocess.run", stack=(Pattern("subprocess:Popen.wait | subprocess:Popen.communicate | subprocess:Popen.poll"), Pattern("subprocess:run"),), join="subprocess.run", needs_caller=True, goes_on=True),
    Rule(kind="subprocess.call", stack=(Pattern("subprocess:Popen.wait | subprocess:Popen.communicate | subprocess:Popen.poll"), Pattern("subprocess:call"),), join="subprocess.call", needs_caller=True, goes_on=True),
    Rule(kind="os.popen", stack=(Pattern("subprocess:Popen.wait"), Pattern("os:_wrap_close.close"),), join="os.popen"),
    Rule(kind="Popen.communicate", stack=(Pattern("subprocess:Popen.communicate"),), join="Popen.communicate", needs_caller=True),
    Rule(kind="Popen.wait", stack=(Pattern("subprocess:Popen.wait"),), join="Popen.wait", needs_caller=True),
    Rule(kind="Popen.send_signal", stack=(Pattern("subprocess:Popen.poll"), Pattern("subprocess:Popen.send_signal"),)),
    Rule(kind="Popen.poll", stack=(Pattern("subprocess:Popen.poll"),), needs_caller=True),
    Rule(kind="join(timeout)", stack=(Pattern("multiprocessing.process:BaseProcess.join"), Pattern("multiprocessing.managers:BaseManager._finalize_manager"),), join="Process.join(timeout)", call=Pattern("multiprocessing.process:BaseProcess.join")),
    Rule(kind="join", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.process:BaseProcess.join"),), join="Process.join", needs_caller=True),
    Rule(kind="active_children", stack=(Pattern("multiprocessing.process:_cleanup"), Pattern("multiprocessing.process:active_children"),), needs_caller=True),
    Rule(kind="is_alive", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.process:BaseProcess.is_alive"),), needs_caller=True),
    Rule(kind="exitcode", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.process:BaseProcess.exitcode"),), needs_caller=True),
    Rule(kind="close", stack=(Pattern("multiprocessing.popen_*:Popen.*"), Pattern("multiprocessing.process:BaseProcess.close"),), needs_caller=True),
    Rule(kind="os.system", stack=(), join="os.system", forked=True, ran="/bin/sh", only_waits=True),
    Rule(kind="os.spawn*", stack=(Pattern("os:_spawnvef"),), join="os.spawn*", only_waits=True),
    Rule(kind="pty.spawn", stack=(Pattern("pty:spawn"),), join="pty.spawn", only_waits=True),
    Rule(kind="signal handler", stack=(), interrupted=Pattern("selectors:*Selector.select | selectors:*Selector._select | threading:Condition.wait | threading:Thread._wait_for_tstate_lock | threading:Thread.join | socket:socket.accept | socket:SocketIO.readinto | subprocess:Popen._try_wait | subprocess:Popen._wait | multiprocessing.popen_fork:Popen.poll | multiprocessing.popen_fork:Popen.wait | multiprocessing.connection:Connection._recv"), join="signal handler", only_waits=True),
    Rule(kind="os.wait*", stack=(), join="os.wait*", needs_caller=True, only_waits=True),
)

OBJECTS = (
    Pattern("multiprocessing.process:BaseProcess.* | multiprocessing.popen_*:Popen.*"),
    Pattern("subprocess:Popen.*"),
    Pattern("multiprocessing.pool:Pool.*"),
    Pattern("concurrent.futures.process:ProcessPoolExecutor.*"),
    Pattern("billiard.process:BaseProcess.* | billiard.popen_*:Popen.* | billiard.pool:Pool.*"),
    Pattern("loky.backend.popen_loky_posix:Popen.* | loky.process_executor:ProcessPoolExecutor.*"),
    Pattern("joblib.externals.loky.backend.popen_loky_posix:Popen.* | joblib.externals.loky.process_executor:ProcessPoolExecutor.*"),
)
