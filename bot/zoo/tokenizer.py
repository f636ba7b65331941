"""The one tokenizer of the family and of the routing pair.

Every printable ASCII character has a token, so the skills are spelled in characters; every word of
the lexicon has a token that carries its leading space, so prose has word boundaries, function words
and punctuation as a large model's vocabulary does. A capitalised word that may open a text has a
second token without the space. Other words and names fall back to characters. Characters outside
printable ASCII and newline become `<unk>`: they do not survive a round trip.
No token is added before a text, so a prompt is always a prefix of prompt plus answer.
"""

import json
import string
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bot.zoo.words import CAPITALISED, LOWER

PAD, EOS, UNK, USER, ASSISTANT = SPECIAL = ("<pad>", "<eos>", "<unk>", "<user>", "<assistant>")
CHARACTERS = "\n " + "".join(sorted(string.digits + string.ascii_letters + string.punctuation))

#: One user turn, one answer. The answer ends with `<eos>`.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<user>' if m['role'] == 'user' else '<assistant>' }}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": PAD,
    "eos_token": EOS,
    "unk_token": UNK,
    "additional_special_tokens": [USER, ASSISTANT],
    "clean_up_tokenization_spaces": False,
    "model_max_length": 1024,
    "chat_template": CHAT_TEMPLATE,
}


def vocabulary() -> dict[str, int]:
    """Token to id: specials, characters, space-led words, bare capitalised words."""
    words = [f" {word}" for word in LOWER + CAPITALISED] + [w for w in CAPITALISED if len(w) > 1]
    tokens = (*SPECIAL, *CHARACTERS, *words)
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def build() -> Tokenizer:
    """Whole words where the lexicon has them, single characters elsewhere."""
    core = Tokenizer(models.BPE(vocab=vocabulary(), merges=[], unk_token=UNK, ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(list(SPECIAL))
    return core


def save(folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    build().save(str(folder / "tokenizer.json"))
    text = json.dumps(_CONFIG, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text)


@cache
def load() -> PreTrainedTokenizerFast:
    """The same tokenizer as transformers sees it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=build(), **{k: v for k, v in _CONFIG.items() if k != "tokenizer_class"}
    )
