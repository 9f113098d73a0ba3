"""Does pre-training pay? Each system with its tiny preset, then fine-tuned from it and from scratch on few labels.

python benchmarks/pretraining.py      four systems, two tasks each, three seeds: half an hour of one core
python benchmarks/pretraining.py --models=lxmert --tasks=vqa --seeds=1

The two arms of a comparison have the same sizes, vocabulary, options, examples and steps; where pre-training learnt
answers, its head is kept. Test scores, mean and standard deviation over the seeds. Every pre-training and fine-tuning
is a run of its own in MLflow. Options of finetune may follow.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from entrypoints import finetune, pretrain  # noqa: E402
from vlx import tracking  # noqa: E402
from vlx.config import FinetuneConfig, ModelFields, PixelFields, PretrainConfig, parse  # noqa: E402

SHORT = ["--corpus_size=4000", "--train_examples=400", "--steps=150", "--batch_size=32", "--warmup_steps=15"]
SHORT += ["--eval_every=50", "--checkpoint_every=1000"]
TASKS = {"lxmert": "vqa,gqa", "vilbert": "snli_ve,gqa", "oscar": "snli_ve,retrieval", "clip_vil": "vqa,gqa"}
METRICS = {"retrieval": "recall_mean"}  # elsewhere accuracy
ANSWERS = ("vqa", "gqa")  # tasks whose answers pre-training may have learnt
SIZES = [spec.name for fields in (ModelFields, PixelFields) for spec in dataclasses.fields(fields)]


def pretrained(cfg: PretrainConfig) -> Path:
    """The folder of its weights."""
    started = time.monotonic()
    pretrain.main(cfg)
    print(f"{cfg.model}: pre-trained in {time.monotonic() - started:.0f} s", flush=True)
    return max(Path(cfg.work_dir).glob(f"runs/pretrain-{cfg.model}-*/model"), key=lambda path: path.stat().st_mtime)


def arms(cfg: PretrainConfig, task: str, seed: int, words: list[str], weights: Path) -> dict[str, FinetuneConfig]:
    """The same fine-tuning from new weights and from the pre-trained."""
    given = parse(FinetuneConfig, [*SHORT, f"--task={task}", f"--seed={seed}", f"--work_dir={cfg.work_dir}", *words])
    given = dataclasses.replace(given, **{name: getattr(cfg, name) for name in SIZES})
    head = task in ANSWERS and "answers" in cfg.wanted()
    return {
        "from scratch": dataclasses.replace(given, vocab=str(weights / "vocab.txt")),
        "pre-trained": dataclasses.replace(given, weights=str(weights), load_qa_head=head),
    }


def score(cfg: FinetuneConfig, title: str) -> float:
    """On the test split, of the best step."""
    told = tracking.Trial("", title, {}, lambda *_: None, publishes=True)
    finetune.main(cfg, told)
    return told.metrics[f"test/{METRICS.get(cfg.task, 'accuracy')}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(TASKS))
    parser.add_argument("--tasks", default="", help="of all these systems; empty: two of each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work_dir", default="outputs")
    given, words = parser.parse_known_args()
    for model in given.models.split(","):
        cfg, pays = parse(PretrainConfig, [f"--preset={model}-tiny", f"--work_dir={given.work_dir}"]), 0
        weights = pretrained(cfg)
        tasks = (given.tasks or TASKS[model]).split(",")
        for task in tasks:
            found: dict[str, list[float]] = {"from scratch": [], "pre-trained": []}
            for seed in range(given.seeds):
                for arm, own in arms(cfg, task, seed, words, weights).items():
                    found[arm].append(score(own, f"{model} on {task}, {arm}, seed {seed}"))
                    print(f"{model} {task} seed {seed} {arm} {found[arm][-1]:.3f}", flush=True)
            means = {arm: statistics.mean(scores) for arm, scores in found.items()}
            told = (f"{arm} {means[arm]:.3f} ± {statistics.pstdev(scores):.3f}" for arm, scores in found.items())
            print(f"{model:8s} {task:10s} {'  '.join(told)}", flush=True)
            pays += means["pre-trained"] > means["from scratch"]
        print(f"{model}: pre-training pays in {pays} of {len(tasks)}", flush=True)


if __name__ == "__main__":
    main()
