"""The two-model loop at its limits, where the right answer is known exactly."""

import inspect

import pytest
import torch
from transformers import GenerationConfig, StaticCache, TextIteratorStreamer

from route.generate import generate
from route.rules import Router
from route.side import cache_name
from route.vocab import read_vocabulary

WITH_THRESHOLD = [router for router in Router if router.doubt is not None]
SAMPLING = [
    {"do_sample": True, "top_k": 0},
    {"do_sample": True, "top_k": 12, "top_p": 0.9, "temperature": 0.8, "min_p": 0.02},
    {"do_sample": False},
]


def sampled(seed, call, **options):
    torch.manual_seed(seed)
    return call(**options)


@pytest.mark.parametrize("sampling", SAMPLING, ids=["plain", "warped", "greedy"])
@pytest.mark.parametrize("router", WITH_THRESHOLD)
def test_never_is_plain_sampling_from_the_aligned_model(
    router, sampling, base, aligned, tokenizer, make_config, batch
):
    options = {**batch, "max_new_tokens": 20, "num_return_sequences": 2, **sampling}
    if not sampling["do_sample"]:
        options["num_return_sequences"] = 1
    plain = sampled(7, aligned.generate, **options)
    config = make_config(router, "never")
    ours = {"base_model": base, "tokenizer": tokenizer, "config": config}
    routed = sampled(7, generate, model=aligned, **ours, **options)
    assert torch.equal(plain, routed)


@pytest.mark.parametrize("sampling", SAMPLING, ids=["plain", "warped", "greedy"])
@pytest.mark.parametrize("router", [Router.RAND, Router.P, Router.H])
def test_always_is_the_base_with_special_tokens_masked(
    router, sampling, base, aligned, tokenizer, make_config, batch
):
    special = read_vocabulary(tokenizer).special.nonzero().flatten().tolist()
    options = {**batch, "max_new_tokens": 20, **sampling}
    plain = sampled(3, base.generate, suppress_tokens=special, **options)
    ours = {"base_model": base, "tokenizer": tokenizer, "config": make_config(router, "always")}
    routed = sampled(3, generate, model=aligned, **ours, **options)
    assert torch.equal(plain, routed)
    assert not set(routed[:, batch["input_ids"].shape[1] :].flatten().tolist()) & set(special)


MIDDLE = {
    Router.RAND: 0.5,
    Router.P: 0.5,
    Router.H: 1.0,
    Router.PUNC: None,
    Router.FC: None,
    Router.P_PUNC: 0.6,
    Router.P_FC: 0.6,
    Router.H_PUNC: 1.0,
    Router.RAND_PUNC: 0.5,
    Router.RAND_FC: 0.5,
}


@pytest.mark.parametrize("router", list(Router))
def test_a_row_of_a_batch_is_the_row_alone(router, base, aligned, tokenizer, make_config, batch):
    ours = {
        "model": aligned,
        "base_model": base,
        "tokenizer": tokenizer,
        "config": make_config(router, MIDDLE[router]),
    }
    options = {"max_new_tokens": 24, "do_sample": True, "top_k": 0, "return_dict_in_generate": True}
    streams = [torch.Generator().manual_seed(row + 5) for row in range(3)]
    together = generate(**ours, **batch, **options, generator=streams)
    width = batch["input_ids"].shape[1]
    written = 0
    for row in range(3):
        real = batch["attention_mask"][row].bool()
        alone = generate(
            **ours,
            input_ids=batch["input_ids"][row][real][None],
            generator=[torch.Generator().manual_seed(row + 5)],
            **options,
        )
        new = alone.sequences[0, int(real.sum()) :]
        assert torch.equal(together.sequences[row, width : width + len(new)], new)
        assert torch.equal(together.by_base[row, : len(new)], alone.by_base[0])
        assert bool((together.sequences[row, width + len(new) :] == tokenizer.pad_token_id).all())
        assert not together.emitted[row, len(new) :].any()
        written += int(alone.by_base.sum())
    assert 0 < written < int(together.emitted.sum()), "both models should have written"


def test_a_seed_gives_each_row_its_own_stream(base, aligned, tokenizer, make_config, batch):
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer}
    ours |= {"config": make_config(Router.P, 0.5), "do_sample": True, "top_k": 0}
    five = generate(**ours, **batch, max_new_tokens=12, num_return_sequences=5, seed=4)
    again = generate(**ours, **batch, max_new_tokens=12, num_return_sequences=5, seed=4)
    other = generate(**ours, **batch, max_new_tokens=12, num_return_sequences=5, seed=5)
    first = {key: value[:1] for key, value in batch.items()}
    two = generate(**ours, **first, max_new_tokens=12, num_return_sequences=2, seed=4)
    assert torch.equal(five, again)
    assert not torch.equal(five, other)
    assert torch.equal(five[:2, : two.shape[1]], two)


def test_only_the_aligned_model_ends_a_text(base, aligned, tokenizer, make_config, batch):
    eager = generate(
        model=aligned,
        base_model=base,
        tokenizer=tokenizer,
        config=make_config(Router.RAND, 0.7),
        **batch,
        do_sample=True,
        temperature=2.5,
        top_k=0,
        max_new_tokens=60,
        num_return_sequences=30,
        seed=0,
        return_dict_in_generate=True,
    )
    new = eager.sequences[:, batch["input_ids"].shape[1] :]
    ends = (new == tokenizer.eos_token_id) & eager.emitted
    assert ends.any(1).float().mean() > 0.2
    assert not (ends & eager.by_base).any()
    lengths = eager.emitted.sum(1)
    assert all(bool(row[:n].all()) for row, n in zip(eager.emitted, lengths, strict=True))


@pytest.mark.parametrize("router", [Router.P, Router.PUNC, Router.RAND])
def test_words_stay_with_their_writer(router, base, aligned, tokenizer, make_config, batch):
    """Where the base's top token goes on with an open word the writer never changes."""
    out = generate(
        model=aligned,
        base_model=base,
        tokenizer=tokenizer,
        config=make_config(router, MIDDLE[router]),
        **batch,
        do_sample=True,
        top_k=0,
        max_new_tokens=40,
        num_return_sequences=8,
        seed=1,
        return_dict_in_generate=True,
    )
    held = ~out.free[:, 1:] & out.emitted[:, 1:]
    assert held.sum() > 20
    assert torch.equal(out.by_base[:, 1:][held], out.by_base[:, :-1][held])


def test_the_aligned_prefix_and_the_veto(base, aligned, tokenizer, make_config, batch):
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, **batch, "seed": 2}
    ours |= {"do_sample": True, "top_k": 0, "max_new_tokens": 16, "return_dict_in_generate": True}
    prefixed = generate(**ours, config=make_config(Router.RAND, "always", aligned_prefix=3))
    assert not prefixed.by_base[:, :3].any()
    assert prefixed.free[:, 3:].sum() > 5
    assert prefixed.by_base[:, 3:][prefixed.free[:, 3:]].all()
    free = generate(**ours, config=make_config(Router.RAND, "always"))
    strict = generate(**ours, config=make_config(Router.RAND, "always", veto=0.5))
    assert 0 < strict.by_base.sum() < free.by_base.sum()
    width = batch["input_ids"].shape[1]
    for row, start in enumerate((batch["attention_mask"] == 0).sum(1)):
        logits = aligned(strict.sequences[row : row + 1, int(start) :]).logits[0]
        logits = logits[width - int(start) - 1 :]
        for step in strict.by_base[row].nonzero().flatten().tolist():
            probs = logits[step].softmax(-1)
            assert probs[strict.sequences[row, width + step]] >= 0.5 * probs.max() - 1e-6


@pytest.mark.parametrize("router", list(Router))
def test_lazy_execution_gives_the_same_text_with_fewer_forwards(
    router, base, aligned, tokenizer, make_config, batch
):
    one = {key: value[1:2] for key, value in batch.items()}
    for rows, sample in ((batch, 3), (one, 1)):
        ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, **rows, "seed": 4}
        ours |= {"do_sample": True, "max_new_tokens": 30, "num_return_sequences": sample}
        ours |= {"config": make_config(router, MIDDLE[router]), "return_dict_in_generate": True}
        eager, lazy = generate(**ours), generate(**ours, execution="lazy")
        assert torch.equal(eager.sequences, lazy.sequences)
        assert torch.equal(eager.by_base, lazy.by_base)
        assert lazy.forwards["base"] == eager.forwards["base"]
        assert lazy.forwards["aligned"] <= eager.forwards["aligned"]
    # alone, the aligned model reads once for its prompt and once for each token it writes later
    later = int((~lazy.by_base[0, 1:] & lazy.emitted[0, 1:]).sum())
    assert lazy.forwards["aligned"] == 1 + later


def test_static_cache_gives_the_same_text(base, aligned, tokenizer, make_config, batch):
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, **batch, "seed": 9}
    ours |= {"config": make_config(Router.P, 0.6), "do_sample": True, "max_new_tokens": 16}
    static = StaticCache(config=aligned.config, max_cache_len=40)
    name = cache_name(inspect.signature(aligned.forward).parameters)
    assert torch.equal(generate(**ours), generate(**ours, **{name: static}))


def test_streaming_and_stop_strings(base, aligned, tokenizer, make_config):
    prompt = tokenizer(" the", return_tensors="pt")
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, "seed": 1}
    ours |= {"config": make_config(Router.P, 0.6), "do_sample": True, "max_new_tokens": 30}
    whole = tokenizer.decode(generate(**ours, **prompt)[0, 1:])
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    generate(**ours, **prompt, streamer=streamer)
    assert "".join(streamer) == whole
    stop = whole[4]
    cut = tokenizer.decode(generate(**ours, **prompt, stop_strings=[stop])[0, 1:])
    assert cut == whole[: len(cut)]
    assert stop in cut
    assert len(cut) < len(whole)


def test_it_reports_forwards_and_scores(base, aligned, tokenizer, make_config, batch):
    out = generate(
        model=aligned,
        base_model=base,
        tokenizer=tokenizer,
        config=make_config(Router.P, 0.6),
        **batch,
        generation_config=GenerationConfig(
            do_sample=True, max_new_tokens=9, pad_token_id=0, num_return_sequences=2
        ),
        seed=3,
        output_scores=True,
        return_dict_in_generate=True,
    )
    steps = out.by_base.shape[1]
    assert out.forwards == {"base": steps, "aligned": steps}
    assert len(out.scores) == steps
    assert out.sequences.shape == (6, batch["input_ids"].shape[1] + steps)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 2}, "num_beams"),
        ({"use_cache": False}, "use_cache"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"max_new_token": 3}, "max_new_token"),
        ({"base_model": None}, "base_model="),
        ({"base_inputs": [[5], [5]]}, "2 base prompts for 3"),
        ({"preset": "wild"}, "no preset 'wild'"),
        ({"generator": [torch.Generator()]}, "1 generators for 3 rows"),
        ({"generator": torch.Generator(), "seed": 1}, "seed= or generator="),
        ({"execution": "fast"}, "there are eager, lazy, block"),
        ({"input_ids": torch.zeros(3, 0, dtype=torch.long)}, "L at least 1"),
        ({"generator": [torch.Generator()], "execution": "block"}, "1 generators for 3 rows"),
    ],
)
def test_what_is_not_supported_is_refused(
    options, named, base, aligned, tokenizer, make_config, batch
):
    ours = {"model": aligned, "base_model": base, "tokenizer": tokenizer, "max_new_tokens": 3}
    with pytest.raises(ValueError, match=named):
        generate(**(ours | {"config": make_config(Router.P, 0.5)} | dict(batch) | options))
