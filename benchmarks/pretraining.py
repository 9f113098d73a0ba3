"""Does pre-training help? Each architecture's tiny preset, then fine-tuning from it and from scratch on few labels.

python benchmarks/pretraining.py      four architectures, two tasks each, three seeds: half an hour of one core
python benchmarks/pretraining.py --models=lxmert --tasks=vqa --seeds=1

Both arms have equal sizes, vocabulary, options, examples and steps. Where pre-training had question answering as an
objective, fine-tuning starts from its answer head. Test scores, mean and standard deviation over the seeds. Every
pre-training and fine-tuning is a run of its own in MLflow. Options of finetune may follow.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

from runs import finetune, pretrain, tracked

from vlx.config import FinetuneConfig, ModelFields, PixelFields, PretrainConfig, parse
from vlx.models.spec import load_spec

SHORT = ["--corpus_size=4000", "--train_examples=400", "--steps=150", "--batch_size=32", "--warmup_steps=15"]
SHORT += ["--eval_every=50", "--checkpoint_every=1000"]
TASKS = {"lxmert": "vqa,gqa", "vilbert": "snli_ve,gqa", "oscar": "snli_ve,retrieval", "clip_vil": "vqa,gqa"}
METRICS = {"retrieval": "recall_mean"}  # of other tasks: accuracy
QA_TASKS = ("vqa", "gqa")  # tasks whose answers pre-training may have learned
MODEL_OPTIONS = [field.name for group in (ModelFields, PixelFields) for field in dataclasses.fields(group)]


def pretrained(cfg: PretrainConfig) -> Path:
    """Pre-train and return the folder of the model."""
    started = time.monotonic()
    pretrain.main(cfg)
    print(f"{cfg.model}: pre-trained in {time.monotonic() - started:.0f} s", flush=True)
    return max(Path(cfg.work_dir).glob(f"runs/pretrain-{cfg.model}-*/model"), key=lambda path: path.stat().st_mtime)


def arms(cfg: PretrainConfig, weights: Path, *, task: str, seed: int, options: list[str]) -> dict[str, FinetuneConfig]:
    """Return one fine-tuning from new weights and one from the pre-trained weights."""
    base = parse(FinetuneConfig, [*SHORT, f"--task={task}", f"--seed={seed}", f"--work_dir={cfg.work_dir}", *options])
    base = dataclasses.replace(base, **{name: getattr(cfg, name) for name in MODEL_OPTIONS})
    objectives = cfg.objective_names() or load_spec(cfg.model).pretraining
    has_qa_head = task in QA_TASKS and "qa" in objectives
    return {
        "from scratch": dataclasses.replace(base, vocab=str(weights / "vocab.txt")),
        "pre-trained": dataclasses.replace(base, weights=str(weights), load_qa_head=has_qa_head),
    }


def compare(cfg: PretrainConfig, weights: Path, *, task: str, seeds: int, options: list[str]) -> bool:
    """Print the test scores of both arms; return whether pre-training helps."""
    scores: dict[str, list[float]] = {}
    metric = METRICS.get(task, "accuracy")
    for seed in range(seeds):
        for arm, arm_cfg in arms(cfg, weights, task=task, seed=seed, options=options).items():
            trial = tracked(finetune.main, arm_cfg, name=f"{cfg.model} on {task}, {arm}, seed {seed}")
            score = trial.metrics[f"test/{metric}"]
            scores.setdefault(arm, []).append(score)
            print(f"{cfg.model} {task} seed {seed} {arm} {score:.3f}", flush=True)
    means = {arm: statistics.mean(values) for arm, values in scores.items()}
    cells = [f"{arm} {means[arm]:.3f} ± {statistics.pstdev(values):.3f}" for arm, values in scores.items()]
    print(f"{cfg.model:8s} {task:10s} {'  '.join(cells)}", flush=True)
    return means["pre-trained"] > means["from scratch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(TASKS))
    parser.add_argument("--tasks", default="", help="of every model; empty: two for each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work_dir", default="outputs")
    args, options = parser.parse_known_args()
    for model in args.models.split(","):
        cfg = parse(PretrainConfig, [f"--preset={model}-tiny", f"--work_dir={args.work_dir}"])
        weights = pretrained(cfg)
        tasks = (args.tasks or TASKS[model]).split(",")
        wins = sum(compare(cfg, weights, task=task, seeds=args.seeds, options=options) for task in tasks)
        print(f"{model}: pre-training helps in {wins} of {len(tasks)} tasks", flush=True)


if __name__ == "__main__":
    main()
