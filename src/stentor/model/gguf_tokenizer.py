"""The tokenizer of a GGUF file: the one that lies beside it, or else the one that its metadata describe."""

from __future__ import annotations

from pathlib import Path

from stentor.errors import UserError
from stentor.model.gguf_file import GgufFile
from stentor.model.gguf_names import TOKENIZER_SHA256_KEY
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import rebuild_bpe
from stentor.tokenizer.bpe_file import byte_alphabet
from stentor.tokenizer.library import TOKENIZER_FILE
from stentor.tokenizer.tokenmonster.tokenizer import VOCAB_FILE

NORMAL, CONTROL, UNUSED = 1, 3, 5
"""llama.cpp's kinds of tokens, as far as byte-level vocabularies have them."""

_WORDS = "llama-bpe"
_BESIDE = {"gpt2": TOKENIZER_FILE, "rwkv": VOCAB_FILE}
"""The file that each of llama.cpp's tokenizers that we write is made from."""


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """Return the tokenizer of a model.

    Raises:
        UserError: the one beside the file is another model's, or there is none and the metadata do not describe one
            whose ids are known to be the same.
    """
    kind = file.text("tokenizer.ggml.model")
    beside = file.path.with_name(_BESIDE.get(kind, TOKENIZER_FILE))
    if beside.is_file():
        tokenizer = Tokenizer.load(beside)
        _require_own(tokenizer, beside, file, kind)
        return tokenizer
    if kind == "gpt2":
        return _rebuilt(file)
    raise UserError(
        f"{file.path} carries a tokenizer of the kind {kind!r:.80}, from which the model's own cannot be rebuilt",
        fix=f"put the {beside.name} the model was trained with beside it",
    )


def _rebuilt(file: GgufFile) -> Tokenizer:
    words = file.text("tokenizer.ggml.pre", "default")
    if words != _WORDS:
        raise UserError(
            f"{file.path} cuts words in the way {words!r:.80}, of which Stentor knows only {_WORDS!r}",
            fix=f"put the {TOKENIZER_FILE} the model was trained with beside it",
        )
    tokens, kinds = _tokens(file)
    eos = file.whole("tokenizer.ggml.eos_token_id")
    roles = {
        "eos": eos,
        "bos": file.whole("tokenizer.ggml.bos_token_id", eos),
        "pad": file.whole("tokenizer.ggml.padding_token_id", eos),
    }
    special_ids = {token_id for token_id, kind in enumerate(kinds) if kind == CONTROL}
    for role, token_id in roles.items():
        if token_id not in special_ids:
            raise UserError(
                f"{file.path} names token {token_id} as {role.upper()}, which is no special token of its vocabulary",
                fix="export the model again",
            )
    merges = file.texts("tokenizer.ggml.merges")
    return rebuild_bpe(tokens, merges, special_ids=special_ids, roles=roles, where=f"the tokenizer in {file.path}")


def _tokens(file: GgufFile) -> tuple[list[str], list[int]]:
    """Return spelling and kind of each token, without the unused ones that only fill the embedding at its end."""
    tokens, kinds = file.texts("tokenizer.ggml.tokens"), file.wholes("tokenizer.ggml.token_type")
    if len(tokens) != len(kinds):
        raise UserError(
            f"{file.path} has {len(tokens)} tokens and {len(kinds)} kinds of them", fix="export the model again"
        )
    num_tokens = len(tokens)
    while num_tokens and kinds[num_tokens - 1] == UNUSED:
        num_tokens -= 1
    tokens, kinds = tokens[:num_tokens], kinds[:num_tokens]
    odd = next((token_id for token_id, kind in enumerate(kinds) if kind not in (NORMAL, CONTROL)), None)
    if odd is not None:
        raise UserError(
            f"{file.path} has a token {tokens[odd]!r:.80} of kind {kinds[odd]}, whose ids Stentor cannot promise",
            fix=f"put the {TOKENIZER_FILE} the model was trained with beside it",
        )
    return tokens, kinds


def _require_own(tokenizer: Tokenizer, beside: Path, file: GgufFile, kind: str) -> None:
    """Refuse a tokenizer that lies beside the file by chance."""
    sha256 = file.text(TOKENIZER_SHA256_KEY, tokenizer.sha256)
    eos = file.whole("tokenizer.ggml.eos_token_id", tokenizer.eos_token_id)
    if sha256 != tokenizer.sha256 or eos != tokenizer.eos_token_id or (kind == "gpt2" and _differs(tokenizer, file)):
        raise UserError(
            f"{beside} is not the tokenizer that {file.path} was made with",
            fix="put the right one there, or move the two files apart",
        )


def _differs(tokenizer: Tokenizer, file: GgufFile) -> bool:
    """Whether an ordinary token of the file is spelt in another way."""
    tokens, kinds = file.texts("tokenizer.ggml.tokens"), file.wholes("tokenizer.ggml.token_type")
    alphabet = {byte: character for character, byte in byte_alphabet().items()}
    if tokenizer.vocab_size > min(len(tokens), len(kinds)):
        return True
    return any(
        kind == NORMAL and "".join(alphabet[byte] for byte in tokenizer.token_bytes(token_id)) != token
        for token_id, (token, kind) in enumerate(zip(tokens[: tokenizer.vocab_size], kinds, strict=False))
    )
