"""The harness marks what it should, and the light scorer says the same item by item."""

import math
import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bot.engines.light import LightScorer
from bot.engines.lm_eval import harness_model, harness_task, outcomes
from bot.suites import Category, Item, Kind
from bot.zoo import tokenizer as zoo_tokenizer
from merge.splits import Split

# The harness and its dataset library raise deprecation warnings of their own.
pytestmark = pytest.mark.filterwarnings("default")

LETTERS = "abcdefghij"


@pytest.fixture(scope="module")
def lm():
    """A random model with a sharp mind: its greedy answers are arbitrary but clear-cut."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    tokenizer = zoo_tokenizer.load()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.4,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return harness_model(LlamaForCausalLM(config).eval(), tokenizer, batch_size=16)


def greedy(lm, prompt, length):
    """Text that the model itself writes, by the plainest loop."""
    ids = lm.tok_encode(prompt)
    written = []
    for _ in range(length):
        with torch.inference_mode():
            written.append(int(lm.model(torch.tensor([ids + written])).logits[0, -1].argmax()))
    return lm.tok_decode(written)


def spelled_alike(lm, prompt, answer):
    """Whether the answer's tokens are those that its text is encoded to."""
    context, continuation = lm._encode_pair(prompt, answer)
    return context == lm.tok_encode(prompt) and lm.tok_decode(continuation) == answer


def exact_items(lm, count=30):
    """Every other answer is what the model says; the others differ in the last place."""
    rng, items = random.Random(5), []
    while len(items) < count:
        prompt = "".join(rng.choices(LETTERS, k=rng.randint(1, 9))) + "="
        answer = greedy(lm, prompt, rng.randint(1, 5))
        pair = lm._encode_pair(prompt, answer) if answer.strip() else ([], [])
        if not answer.strip() or greedy_text(lm, pair) != answer:
            continue
        right = len(items) % 2 == 0
        answer = answer if right else answer + ("x" if not answer.endswith("x") else "y")
        items.append((Item(f"{len(items):02}", f"c{len(items)}", prompt, answer), right))
    return items


def greedy_text(lm, pair):
    """What the model writes after the encoded context, as many tokens as the continuation has."""
    context, continuation = pair
    written = []
    for _ in continuation:
        with torch.inference_mode():
            written.append(int(lm.model(torch.tensor([context + written])).logits[0, -1].argmax()))
    return lm.tok_decode(written) if written == continuation else None


def test_exact_is_greedy_decoding(lm):
    made = exact_items(lm)
    category = Category("say", Kind.EXACT, tuple(item for item, _ in made))
    said = outcomes(lm, harness_task(category))
    assert [mark == "1" for mark in said[::2]] == [True] * 15
    assert said.count("1") < len(said)
    assert LightScorer(lm, [category]).outcomes() == {"say": said}


def test_choice_is_the_likeliest_text(lm):
    rng = random.Random(7)
    items = []
    for number in range(40):
        choices = tuple({"".join(rng.choices(LETTERS, k=rng.randint(1, 4))): 0 for _ in range(4)})
        gold = rng.randrange(len(choices))
        items.append(Item(f"{number}", f"{number}", "pick:", choices[gold], choices, gold))
    category = Category("pick", Kind.CHOICE, tuple(items))
    said = outcomes(lm, harness_task(category))
    assert 0 < said.count("1") < 40
    assert LightScorer(lm, [category]).outcomes() == {"pick": said}
    for item, mark in zip(items, said, strict=True):
        best = max(item.choices, key=lambda choice: likelihood(lm, item.prompt, choice))
        assert (best == item.answer) == (mark == "1")


def likelihood(lm, prompt, text):
    context, continuation = lm._encode_pair(prompt, text)
    with torch.inference_mode():
        logits = lm.model(torch.tensor([context + continuation])).logits[0]
    log_p = logits[len(context) - 1 : -1].log_softmax(-1)
    return float(log_p[range(len(continuation)), continuation].sum())


@pytest.mark.parametrize("budget", [3, 12])
def test_generate_is_the_text_up_to_the_stop(lm, budget):
    """Answers: the model's own text up to its stop or its budget; a part of it; something else."""
    rng, items, stops = random.Random(11), [], ("h", "c")  # in the name of no special token
    for number in range(45):
        prompt = "".join(rng.choices(LETTERS, k=rng.randint(1, 9))) + "="
        text = greedy(lm, prompt, budget)
        for stop in stops:
            text = text.split(stop)[0]
        answer = [text, text[:-1], text + "b"][number % 3]
        if answer:
            items.append(Item(f"{number}", f"{number}", prompt, answer))
    category = Category("tell", Kind.GENERATE, tuple(items), until=stops, max_tokens=budget)
    said = outcomes(lm, harness_task(category))
    assert 0 < said.count("1") < len(items)
    assert LightScorer(lm, [category]).outcomes() == {"tell": said}


def test_a_long_prompt_is_cut_as_the_harness_cuts_it(lm):
    items = [
        Item(f"{n}", f"{n}", LETTERS * n + "=", greedy(lm, (LETTERS * n + "=")[-125:], 2) or "a")
        for n in (11, 12, 13, 14, 20)
    ]
    for kind in (Kind.EXACT, Kind.GENERATE):
        category = Category("long", kind, tuple(items), max_tokens=4)
        assert LightScorer(lm, [category]).outcomes()["long"] == outcomes(
            lm, harness_task(category)
        )


def test_part_of_the_items(lm):
    category = Category("say", Kind.EXACT, tuple(item for item, _ in exact_items(lm)))
    scorer = LightScorer(lm, [category])
    full = scorer.outcomes()["say"]
    part = scorer.outcomes({"say": [0, 3, 29]})["say"]
    assert part == "".join(full[i] if i in (0, 3, 29) else "-" for i in range(30))
    with pytest.raises(IndexError):
        scorer.outcomes({"say": [30]})
    with pytest.raises(KeyError):
        scorer.outcomes({"sing": [0]})


def test_answers_stay_the_texts_that_they_are(lm):
    """Nothing that looks like a template, a list, a date or a number is read as one."""
    texts = ["{{ prompt }}", "[1, 2]", "2024-01-01", "007", "{% x %}", "null", "a\nb"]
    items = [Item(f"{n}", f"{n}", f"{text}?", text) for n, text in enumerate(texts)]
    task = harness_task(Category("odd", Kind.EXACT, tuple(items)))
    task.build_all_requests()
    assert [instance.args for instance in task.instances] == [(f"{t}?", t) for t in texts]


def test_value_and_error_are_those_of_the_harness(lm):
    from lm_eval.evaluator import evaluate

    from bot.worker.evaluate import scored

    category = Category("say", Kind.EXACT, tuple(item for item, _ in exact_items(lm)))
    line = scored("say", Split.TUNE, outcomes(lm, harness_task(category)))
    result = evaluate(lm, {"say": harness_task(category)}, bootstrap_iters=100)["results"]["say"]
    assert line["value"] == pytest.approx(result["acc,none"], abs=1e-12)
    assert line["stderr"] == pytest.approx(result["acc_stderr,none"], abs=1e-12)
    assert scored("say", Split.TUNE, "1")["stderr"] is None
    assert not math.isnan(line["value"])
