"""Suites on EleutherAI's lm-evaluation-harness, offline, with the model in memory.

Each category becomes one harness task, built once and evaluated as often as wanted. Data and
templates never pass through the harness's dataset loaders or Jinja: items are handed over as they
are, so an answer that looks like a date, a list or a template stays the text that it is.

Not promised: equality with a leaderboard's figures; few-shot examples and chat templates are not
used here.
"""

from collections.abc import Sequence
from operator import itemgetter

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bot.suites import Category, Kind

_METRIC = {Kind.EXACT: "acc", Kind.CHOICE: "acc", Kind.GENERATE: "exact_match"}
_OUTPUT = {
    Kind.EXACT: "loglikelihood",
    Kind.CHOICE: "multiple_choice",
    Kind.GENERATE: "generate_until",
}


def harness_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int = 64
) -> HFLM:
    """The harness's view of a live model; it stays valid while the model's weights change."""
    # Told, because the harness otherwise searches the configuration again for every request.
    longest = getattr(model.config, "max_position_embeddings", None)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=longest)


def harness_task(category: Category) -> ConfigurableTask:
    """One category with at least one item as a task of the harness."""
    kind = category.kind
    config = {
        "task": category.name,
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(_rows(category))},
        "test_split": "test",
        "output_type": _OUTPUT[kind],
        "doc_to_text": itemgetter("prompt"),
        "doc_to_target": itemgetter("gold" if kind is Kind.CHOICE else "answer"),
        "target_delimiter": "",  # the answer follows at once; spaces belong to the item
        "metric_list": [{"metric": _METRIC[kind], "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
    }
    if kind is Kind.CHOICE:
        config["doc_to_choice"] = itemgetter("choices")
    if kind is Kind.GENERATE:
        config["generation_kwargs"] = {
            "until": list(category.until),
            "max_gen_toks": category.max_tokens,
            "do_sample": False,
        }
    return ConfigurableTask(config=config)


def outcomes(lm: HFLM, task: ConfigurableTask) -> str:
    """One "0" or "1" per item, in the order of the category's items."""
    name = task.config.task
    result = evaluate(lm, {name: task}, bootstrap_iters=0, log_samples=True)
    metric = _METRIC[_kind(task)]
    marks = {sample["doc_id"]: sample[metric] for sample in result["samples"][name]}
    return bits([float(marks[i]) == 1.0 for i in range(len(task.task_docs))])


def requests(task: ConfigurableTask) -> list[Instance]:
    """What the harness asks the model for this task, in the order of its items."""
    task.build_all_requests()
    return list(task.instances)


def bits(marks: Sequence[bool]) -> str:
    return "".join("1" if mark else "0" for mark in marks)


def _kind(task: ConfigurableTask) -> Kind:
    return next(kind for kind, output in _OUTPUT.items() if output == task.OUTPUT_TYPE)


def _rows(category: Category) -> list[dict[str, object]]:
    if category.kind is Kind.CHOICE:
        return [{"prompt": i.prompt, "choices": i.choices, "gold": i.gold} for i in category.items]
    return [{"prompt": i.prompt, "answer": i.answer} for i in category.items]
