"""Does pre-training pay? Each system with its tiny preset, then fine-tuned from it and from scratch on few labels.

python benchmarks/pretraining.py      three systems, two tasks, three seeds: about half an hour of one core
python benchmarks/pretraining.py --models=lxmert --tasks=vqa --seeds=1

The two arms of a comparison have the same options, examples and steps. Test scores, mean and standard deviation over
the seeds. Every pre-training and fine-tuning is a run of its own in MLflow. Options of finetune may follow.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from entrypoints import finetune, pretrain  # noqa: E402
from vlx import tracking  # noqa: E402
from vlx.config import FinetuneConfig, PretrainConfig, parse  # noqa: E402

SHORT = ["--corpus_size=4000", "--train_examples=400", "--steps=150", "--batch_size=32", "--warmup_steps=15"]
SHORT += ["--eval_every=50", "--checkpoint_every=1000"]
METRICS = {"retrieval": "recall_mean"}  # elsewhere accuracy


def pretrained(model: str, folder: str) -> str:
    """The folder of its weights."""
    started = time.monotonic()
    pretrain.main(parse(PretrainConfig, [f"--preset={model}-tiny", f"--work_dir={folder}"]))
    print(f"{model}: pre-trained in {time.monotonic() - started:.0f} s", flush=True)
    newest = max(Path(folder).glob(f"runs/pretrain-{model}-*/model"), key=lambda path: path.stat().st_mtime)
    return str(newest)


def score(cfg: FinetuneConfig, title: str) -> float:
    """On the test split, of the best step."""
    told = tracking.Trial("", title, {}, lambda *_: None, publishes=True)
    finetune.main(cfg, told)
    return told.metrics[f"test/{METRICS.get(cfg.task, 'accuracy')}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="lxmert,vilbert,oscar")
    parser.add_argument("--tasks", default="vqa,refcoco")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work_dir", default="outputs")
    given, words = parser.parse_known_args()
    wins = 0
    for model in given.models.split(","):
        weights = pretrained(model, given.work_dir)
        for task in given.tasks.split(","):
            found: dict[str, list[float]] = {"from scratch": [], "pre-trained": []}
            for seed in range(given.seeds):
                for arm, start in (("from scratch", ""), ("pre-trained", weights)):
                    own = [f"--model={model}", f"--task={task}", f"--seed={seed}", f"--work_dir={given.work_dir}"]
                    cfg = parse(FinetuneConfig, [*SHORT, *words, *own, f"--weights={start}"])
                    found[arm].append(score(cfg, f"{model} on {task}, {arm}, seed {seed}"))
                    print(f"{model} {task} seed {seed} {arm} {found[arm][-1]:.3f}", flush=True)
            means = {arm: statistics.mean(scores) for arm, scores in found.items()}
            told = (f"{arm} {means[arm]:.3f} ± {statistics.pstdev(scores):.3f}" for arm, scores in found.items())
            print(f"{model:8s} {task:10s} {'  '.join(told)}", flush=True)
            wins += means["pre-trained"] > means["from scratch"]
    print(f"pre-training pays in {wins} of {len(given.models.split(',')) * len(given.tasks.split(','))}")


if __name__ == "__main__":
    main()
