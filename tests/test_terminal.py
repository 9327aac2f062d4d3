"""What a call of Snakemake prints: a line a job, and what failed as the last thing."""

import errno
import logging
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.logging import DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_mfm import LogHandler
from snakemake_logger_plugin_mfm.jobs import Job, shorten, why_failed

COMMAND = "set -euo pipefail; python -m mfm train --config a/config.json >> {log} 2>&1"


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Starts a handler as Snakemake does; gives it, and `say` for records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snakemake_logger_plugin_mfm.tell_interrupts", lambda: None)

    def start(*words, quiet=(), dryrun=False):
        monkeypatch.setattr("sys.argv", ["snakemake", *words])
        settings = SimpleNamespace(
            verbose=False, printshellcmds=False, dryrun=dryrun, stdout=False, quiet=quiet
        )
        handler = LogHandler(settings, None)
        handler.addFilter(DefaultFilter(quiet, False, False, dryrun, False))
        handler.setFormatter(DefaultFormatter(quiet, True))

        def say(event=None, msg="", level=logging.INFO, **said):
            record = logging.LogRecord("snakemake", level, "", 0, msg, (), None)
            record.__dict__.update(said, event=event)
            handler.handle(record)

        return handler, say

    return start


def begin(say, jobid, rule="finetune", reason="", output=("out",), **wildcards):
    log = f"{rule}{jobid}.log"
    said = {"rule_name": rule, "wildcards": wildcards, "log": [log], "output": output}
    say(LogEvent.JOB_INFO, jobid=jobid, reason=reason, **said)
    return log


def fail(say, jobid, log, ended="returned non-zero exit status 2."):
    text = f"RuleException:\nCalledProcessError in file train.smk, line 5:\nCommand '{COMMAND}' "
    say(LogEvent.ERROR, text.format(log=log) + ended, logging.ERROR, exception="RuleException")
    said = {"rule_name": "finetune", "log": [log], "shellcmd": COMMAND, "msg": None}
    say(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=jobid, **said)


def test_a_job_is_a_line_when_it_starts_and_one_when_it_is_done(call, capsys):
    handler, say = call()
    say(msg="Building DAG of jobs...")
    begin(say, 3, rule="finetune_config", arm="mfm", seed="0", folder="")
    begin(say, 4, arm="mfm", seed="0", folder="")
    say(LogEvent.SHELLCMD, "Shell command: python", shellcmd=COMMAND)
    for jobid in (3, 4):
        say(LogEvent.JOB_FINISHED, f"Finished jobid: {jobid}", job_id=jobid)
        say(LogEvent.PROGRESS, done=jobid, total=9)
    say(msg="Complete log(s): somewhere")
    handler.close()
    lines = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["finetune arm=mfm seed=0", "4 of 9 done: finetune arm=mfm seed=0"]


def test_what_failed_is_said_last_each_with_its_log(call, capsys, tmp_path):
    handler, say = call()
    logs = [begin(say, number, arm="mfm", seed=str(number)) for number in range(4)]
    (tmp_path / logs[0]).write_text("epoch 1\nmfm: error: no space; free some\nmore\n")
    (tmp_path / logs[1]).write_text(
        "Traceback (most recent call last):\n  File x\nlib.Invalid: it is torn\n"
    )
    (tmp_path / logs[2]).write_text("epoch 1/3  loss 2\n")
    fail(say, 0, logs[0])
    # Two at once: their reports come before either job's own record.
    text = f"Command '{COMMAND.format(log=logs[2])}' died with <Signals.SIGKILL: 9>."
    say(LogEvent.ERROR, text, logging.ERROR)
    fail(say, 1, logs[1], "returned non-zero exit status 1.")
    say(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=2, rule_name="finetune", log=[logs[2]])
    fail(say, 3, logs[3], "returned non-zero exit status 5.")
    say(msg="Exiting because a job execution failed. Look above", level=logging.ERROR)
    say(LogEvent.ERROR, "WorkflowError:\nAt least one job did not complete successfully.", 40)
    handler.close()
    handler.close()  # as at the end of the process
    said = capsys.readouterr().err
    assert "set -euo" not in said
    assert said.splitlines()[-4:] == [
        f"mfm: error: finetune arm=mfm seed=0: no space; free some; log: {logs[0]}",
        f"mfm: error: finetune arm=mfm seed=1: lib.Invalid: it is torn; log: {logs[1]}",
        "mfm: error: finetune arm=mfm seed=2: it was killed (SIGKILL), maybe for want of memory; "
        f"log: {logs[2]}",
        f"mfm: error: finetune arm=mfm seed=3: it ended with exit code 5; log: {logs[3]}",
    ]


def test_an_error_of_no_job_is_the_last_line_too(call, capsys):
    from snakemake.settings.enums import Quietness

    handler, say = call(quiet={Quietness.ALL})
    say(LogEvent.ERROR, "MissingRuleException:\nNo rule to\nproduce x", logging.ERROR)
    handler.close()
    expected = "mfm: error: MissingRuleException: No rule to produce x\n"
    assert capsys.readouterr().err == expected


def test_a_stopped_run_says_how_it_goes_on(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("epoch 1\nmfm: stopped by SIGINT after epoch 1; start again to continue\n")
    assert why_failed(Job("finetune", (log,)), "exit status 75").startswith("stopped by SIGINT")
    assert why_failed(Job("finetune", ()), "missing output:\n a, b") == "missing output: a, b"


def test_a_changed_configuration_is_its_keys_and_not_its_json(call, capsys):
    _, say = call(dryrun=True)
    before, now = (
        r"""'{\n  "a": {"lr": 0.1, "b": "it\'s"},\n  "c": 1}'""",
        """'{"a": {"lr": 0.2}}'""",
    )
    reason = "Params have changed since last execution: Union of exclusive params before and now "
    reason += f"across all output: before: {before} now: {now} "
    begin(say, 1, reason=f"Missing output files: {'x' * 200}; {reason}", seed="0")
    line = capsys.readouterr().err
    changes = 'a.b "it\'s" -> null, a.lr 0.1 -> 0.2, c 1 -> null'
    assert line == (
        f"finetune seed=0: Missing output files: {'x' * 78}...; Params have changed: {changes}\n"
    )
    assert shorten("Params have changed since last execution: before: 'x' now: 'y'") == (
        "Params have changed: others than before"
    )


@pytest.mark.parametrize("done", ["made", "nothing to do"])
def test_a_call_for_the_table_ends_with_its_first_sentence(call, capsys, tmp_path, done):
    table = tmp_path / "results/table.md"
    table.parent.mkdir()
    table.write_text("# which?\n\n**mfm is better than scratch: +1.2 points.**\n\nA **word**.\n")
    handler, say = call("--cores", "1", "results/table.md")
    if done == "made":
        begin(say, 1, rule="table", output=["results/table.md"])
    else:
        say(msg="Nothing to be done (all requested files are present and up to date).")
    handler.close()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "mfm is better than scratch: +1.2 points. (results/table.md)"


def test_a_disk_that_took_no_line_is_told_of(tmp_path, monkeypatch):
    log = tmp_path / "job.log"
    log.touch()
    assert why_failed(Job("finetune", (log,)), "exit status 2") == "it ended with exit code 2"

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    told = why_failed(Job("finetune", (log,)), "exit status 2")
    assert told.startswith(f"{tmp_path}: No space left on device; free some space")


CAUGHT = """
import time
from snakemake_logger_plugin_mfm.interrupts import tell_interrupts

tell_interrupts()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("ready", flush=True)
    time.sleep(60)
"""
ESCAPED = CAUGHT.replace("except KeyboardInterrupt", "except ValueError")


@pytest.mark.parametrize(
    ("program", "times", "code"), [(CAUGHT, 2, 130), (ESCAPED, 1, -signal.SIGINT)]
)
def test_ctrl_c_is_no_traceback_and_a_second_ends_at_once(program, times, code):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell's background jobs, such as this test may be in, ignore Ctrl-C.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes, **heard)
    for _ in range(times):
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said == "mfm: error: stopped by Ctrl-C; start again to continue\n"
