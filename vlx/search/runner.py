"""The life of a study: one process leads it, any number of processes join it, all of them run trials."""

import logging
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlx import tracking, workspace
from vlx.config import SearchConfig
from vlx.config.base import Config
from vlx.search.results import best_trial, importances, trial_rows
from vlx.search.session import Session, Train, open_session
from vlx.search.study import TIMING, Timing, is_dead
from vlx.search.trial import next_trial
from vlx.search.winner import promote_winner, write_preset
from vlx.tracking.store import process_tags

log = logging.getLogger("vlx")
LEADER_OPTIONS = {"workers", "promote", "description", "options"}  # not passed on to workers
Prepare = Callable[[Any], Config]  # makes what all trials share, such as a teacher, and names it in the config


def run(config: SearchConfig, train: Train, *, prepare: Prepare, script: Path, timing: Timing = TIMING) -> float:
    """Lead the study of these options, or join the process that leads it. Returns the best score.

    script: the Python file that starts a worker from the options of this search.
    """
    session = open_session(config, train, timing=timing)
    with elect_leader(session) as is_leader:
        if is_leader:
            return run_study(session, prepare, script=script)
    return join_study(session, prepare)


@contextmanager
def elect_leader(session: Session) -> Iterator[bool]:
    """Hold the study's file lock `leader.lock` if it is free. Yields whether this process leads the study.

    The lock decides between processes that share a disk. Between machines the study itself decides, which names its
    leader: the process that has the lock leads if the study's run is in its folder, or if the study has no leader
    that may be alive.
    """
    with (session.folder / "leader.lock").open("w") as lock:
        has_lock = workspace.try_lock(lock.fileno())
        while not has_lock and not session.leader:
            time.sleep(session.timing.poll)  # the process that has the lock is about to lead
            has_lock = workspace.try_lock(lock.fileno())
        has_run = (session.folder / "journal.jsonl").is_file()
        yield has_lock and (has_run or not session.leader or is_dead(session.leader))


def run_study(session: Session, prepare: Prepare, *, script: Path) -> float:
    """Run trials, here and in workers, until the study has ended; report it, and publish the best settings."""
    config = session.config
    name = f"search of {config.verb}"
    with tracking.run(config, name=name, folder=session.folder, description=describe(session)) as run:
        run.log_text(session.space.text, "space.yaml")
        for settings in session.planned_settings():
            session.study.enqueue_trial(settings, skip_if_exists=True)
        prepared = replace(session, base=prepare(session.base))
        session.study.set_user_attr("leader", process_tags() | {"uuid": run.uuid})
        with workers(worker_command(config, script), config.workers - 1, folder=session.folder):
            run_trials(prepared, run)
        report(session, run)
        best = best_trial(session.study)
        write_preset(session, run, best=best)
        if config.promote:
            promote_winner(prepared, run, best=best)
    for link in tracking.links(run):
        log.info("%s", link)
    return best["score"]


def join_study(session: Session, prepare: Prepare) -> float:
    """Run trials of a study that another process leads. Returns the best score so far, nan without a complete trial."""
    log.info("joining the study %s.", session.study.study_name)
    prepared = replace(session, base=prepare(session.base))
    while next_trial(prepared):
        pass
    scores = [row["score"] for row in trial_rows(session.study) if row["state"] == "complete"]
    return max(scores, default=math.nan)


def run_trials(session: Session, run: tracking.Run) -> None:
    """Run trials until those of all processes have ended."""
    reported = time.monotonic()
    while next_trial(session) or poll(session):
        tracking.log_progress(run, trial_rows(session.study))
        if time.monotonic() - reported > session.timing.report:
            report(session, run)
            reported = time.monotonic()


def poll(session: Session) -> bool:
    """Return whether a trial runs in another process, and then only after a pause."""
    is_running = any(row["state"] == "running" for row in trial_rows(session.study))
    if is_running:
        time.sleep(session.timing.poll)
    return is_running


def report(session: Session, run: tracking.Run) -> None:
    """Log the table of trials and the figures."""
    log_options = [name for name, dimension in session.space.dimensions.items() if dimension.log]
    tracking.log_search(
        run,
        trial_rows(session.study),
        importances=importances(session.study),
        log_options=log_options,
        second_objective=session.config.second_objective,
    )


def describe(session: Session) -> str:
    """The description of the study's run."""
    names = ", ".join(session.space.dimensions)
    return session.config.description or f"Study {session.study.study_name}: {names} by {session.config.sampler}."


def worker_command(config: SearchConfig, script: Path) -> list[str]:
    """The command of a process that joins the study, with the options of the search and of its verb."""
    options = [f"--{name}={value}" for name, value in config.as_dict().items() if name not in LEADER_OPTIONS]
    return [sys.executable, str(script), *options, *shlex.split(config.options)]


@contextmanager
def workers(command: list[str], count: int, *, folder: Path) -> Iterator[None]:
    """Processes that join the study and end with the block; each writes `folder`/worker-N.log."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // (count + 1)))}
    processes = []
    for number in range(count):
        with (folder / f"worker-{number + 1}.log").open("ab") as output:
            processes.append(subprocess.Popen(command, env=threads | os.environ, stdout=output, stderr=output))
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
