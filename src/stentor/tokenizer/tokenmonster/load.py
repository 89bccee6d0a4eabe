"""Open a TokenMonster vocabulary: a file, a folder that carries one, or a published name."""

from __future__ import annotations

from pathlib import Path

from stentor.errors import UserError
from stentor.sealed import require_sealed
from stentor.tokenizer.tokenmonster.table_cache import open_vocab
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab

PREFIX, SUFFIX = "tokenmonster:", ".vocab"


def is_tokenmonster(path_or_name: str | Path) -> bool:
    """Whether this names a TokenMonster vocabulary, and nothing else that Stentor opens."""
    path = Path(path_or_name)
    if str(path_or_name).startswith(PREFIX) or path.suffix == SUFFIX:
        return True
    return path.is_dir() and not (path / "tokenizer.json").exists() and any(path.glob(f"*{SUFFIX}"))


def load_tokenmonster(path_or_name: str | Path) -> TokenMonsterTokenizer:
    """Open a .vocab file, a folder that holds one, or a name such as `tokenmonster:english-8000-balanced-v1`.

    Raises:
        UserError: it is not there, or cannot be fetched.
        CorruptArtifactError: it breaks a rule, or was altered since its folder was sealed.
    """
    name = str(path_or_name)
    if name.startswith(PREFIX):
        from stentor.tokenizer.tokenmonster.hub import fetch_vocab

        return TokenMonsterTokenizer(open_vocab(fetch_vocab(name.removeprefix(PREFIX))))
    path = Path(path_or_name)
    if path.is_dir():
        path = vocab_in(path)
    vocab = open_vocab(path)
    require_sealed(path, pack_vocab(vocab))
    return TokenMonsterTokenizer(vocab)


def vocab_in(folder: Path) -> Path:
    """Return the one .vocab file of a folder that holds at least one."""
    path, *others = sorted(folder.glob(f"*{SUFFIX}"))
    if others:
        raise UserError(f"{folder} holds several vocabularies", fix=f"pass one of them, such as {path}")
    return path
