"""Small real tokenizers, trained here, as the folders that a model's files come in."""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = ["the quick brown fox jumps over the lazy dog", "user assistant system", "a b c  d\n\n"]


def special(content: str, **options: bool) -> AddedToken:
    """An added token that is looked for in the text as it is."""
    return AddedToken(content, **{"special": True, "normalized": False, **options})


@lru_cache
def _trained(metaspace: bool) -> str:
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Metaspace(prepend_scheme="first") if metaspace else byte_level
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS * 20, trainer)
    return tokenizer.to_str()


def trained(
    added: Iterable[AddedToken] = (), *, metaspace: bool = False, begins: bool = False
) -> Tokenizer:
    """A BPE tokenizer with the tokens of ChatML; ``begins``: its texts begin with ``<s>``."""
    tokenizer = Tokenizer.from_str(_trained(metaspace))
    tokenizer.add_special_tokens([special(START), special(END)])
    tokenizer.add_tokens(list(added))
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return tokenizer


def saved(
    folder: Path, tokenizer: Tokenizer, template: str | None = CHATML, **config: object
) -> Path:
    """Write the folder of a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", **config})
    )
    return folder
