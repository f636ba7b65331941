"""The printed snippets are run as printed, on a tiny model that lies where the Hub id points.

transformers takes `ORG/NAME` as a folder where one exists, so not a character is changed. The
router's own code is not under test here, so `custom_generate/` holds a recorder in its place.
"""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from bot import cards

from .reading import body, read

MAKE_MODELS = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

vocab = {c: i for i, c in enumerate(["<pad>", "<s>", "</s>", "<unk>", *map(chr, range(32, 127))])}
inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
inner.decoder = decoders.Fuse()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
    model_input_names=["input_ids", "attention_mask"],
)
tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}:"
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(vocab), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
))
for folder in sys.argv[1:]:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
"""

RECORDER = """
import json
from transformers import GenerationMixin


def generate(model, base_model=None, tokenizer=None, prompts=None, preset=None, **kwargs):
    kwargs.pop("custom_generate", None)
    kwargs.pop("trust_remote_code", None)
    revision = kwargs.pop("revision", None)
    print(json.dumps({"base": type(base_model).__name__, "prompts": prompts, "revision": revision}))
    return GenerationMixin.generate(model, **kwargs)
"""


def run(code, folder, *arguments):
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    run(MAKE_MODELS, folder, "stockpot/tiny-soup", "tiny/base-text", "tiny/aligned")
    code = folder / "stockpot" / "tiny-router" / "custom_generate"
    code.mkdir(parents=True)
    (code / "generate.py").write_text(RECORDER)
    return folder


def snippet(text):
    return dict(read(body(text)).code)["python"]


def test_soup_as_printed(hub, soup):
    chat = dataclasses.replace(soup, usage=dataclasses.replace(soup.usage, chat=True))
    both = snippet(cards.render_soup(soup)) + "\n" + snippet(cards.render_soup(chat))
    out = run(both, hub).replace("\n", "")
    assert out.startswith(soup.usage.prompt)
    assert soup.usage.prompt + ":" in out


def test_router_as_printed(hub, router):
    plain = dataclasses.replace(router, prompt_format="same", chat=True)
    both = snippet(cards.render_router(router)) + "\n" + snippet(cards.render_router(plain))
    seen = [json.loads(line) for line in run(both, hub).splitlines() if line.startswith('{"base"')]
    assert [line["base"] for line in seen] == ["LlamaForCausalLM"] * 2
    assert [line["revision"] for line in seen] == ["v1"] * 2
    assert [line["prompts"] for line in seen] == [["tell a story"], None]
