"""End runs in every way, each in its own process; print a JSON object: ending -> exit code.

python endings.py FOLDER: runs in FOLDER/<ending>, store: MLFLOW_TRACKING_URI. Forks: mlflow is imported once.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlx import tracking
from vlx.tracking import Run


@dataclass(frozen=True)
class Options:
    task: str = "nlvr2"


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(20)


def returned(run: Run) -> None:
    run.log_metrics({"loss": 1.0}, step=1)


def exception(run: Run) -> None:
    raise ValueError("broken")


def exit_0(run: Run) -> None:
    sys.exit(0)


def exit_3(run: Run) -> None:
    sys.exit(3)


def keyboard(run: Run) -> None:
    raise KeyboardInterrupt


def sigint(run: Run) -> None:
    send(signal.SIGINT)


def sigterm(run: Run) -> None:
    send(signal.SIGTERM)


def sighup(run: Run) -> None:
    send(signal.SIGHUP)


def sigterm_at_a_step(run: Run) -> None:
    for step in range(100):
        run.log_metrics({"loss": 1.0}, step=step)
        run.stop_if_requested(lambda: run.log_text("saved", "checkpoint.txt"))
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def sigterm_in_a_nested_run(run: Run) -> None:
    with tracking.run(Options(), name="nested", description="", folder=run.folder / "nested"):
        send(signal.SIGTERM)


def sigterm_after_the_last_step(run: Run) -> None:
    with tracking.run(Options(), name="complete", description="", folder=run.folder / "nested") as nested:
        nested.stop_if_requested(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)
    run.log_text("must not happen", "later.txt")


def sigint_twice(run: Run) -> None:
    run.stop_if_requested(lambda: None)
    os.kill(os.getpid(), signal.SIGINT)
    run.log_metrics({"first": 1.0}, step=0)  # the first waits for the step's end
    send(signal.SIGINT)


def sigkill(run: Run) -> None:
    for step in range(10):
        run.log_metrics({"loss": float(step)}, step=step)
    run.uploader.flush(60)
    send(signal.SIGKILL)


ENDINGS: tuple[Callable[[Run], None], ...] = (
    returned, exception, exit_0, exit_3, keyboard, sigint, sigterm, sighup, sigterm_at_a_step,
    sigterm_in_a_nested_run, sigterm_after_the_last_step, sigint_twice, sigkill,
)  # fmt: skip


def child(ending: Callable[[Run], None], folder: Path) -> int:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with tracking.run(Options(), name=ending.__name__, description="", folder=folder) as run:
            ending(run)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return 130
    except ValueError:
        return 1
    finally:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    return 0


def main(folder: Path) -> None:
    codes = {}
    for ending in ENDINGS:
        process = os.fork()
        if not process:
            code = 99
            try:
                code = child(ending, folder / ending.__name__)
            finally:
                os._exit(code)
        codes[ending.__name__] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    sys.stdout.write(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
