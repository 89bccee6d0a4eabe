"""Sections on what the model is: at a glance, its architecture, its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator

from stentor.report.card.markdown import bullets, code, facts, link, paragraphs, plain, table
from stentor.report.card.metadata import text_name
from stentor.report.card.subject import Material
from stentor.tokenizer.bpe import BpeTokenizer
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.unigram import UnigramTokenizer

GOLDEN = (
    "The history of computing began",
    "In 1969, 3.14159 < 1,000,000 (or 50%).",
    "  two spaces,\ta tab\nand a new line",
    "na\u00efve caf\u00e9, Stra\u00dfe, \u65e5\u672c\u8a9e",
    "def f(x): return x ** 2  # \U0001f44d\U0001f3fd",
)
"""Strings in which tokenizers that are not the same one give other ids."""
_ALGORITHMS: dict[type, str] = {
    BpeTokenizer: "byte-level BPE",
    UnigramTokenizer: "byte-level Unigram",
    TokenMonsterTokenizer: "TokenMonster",
}
_CARRIERS = {
    "llama": "`LlamaForCausalLM`: RMSNorm, rotary positions, SwiGLU",
    "qwen3": "`Qwen3ForCausalLM`: RMSNorm, also on the queries and keys of each head; rotary positions, SwiGLU",
}


def summary(material: Material) -> str:
    """Return what stands before the first section: words of its maker, and what matters most."""
    config, about = material.subject.config, material.about
    run = material.subject.run
    said = about.summary or (str(run.settings.get("description", "")) if run else "")
    rows = [
        ("Parameters", f"{config.num_parameters:,}"),
        ("Kind", "base language model: it continues text; no instructions, no safety tuning"),
        ("Context", f"{config.max_position_embeddings:,} tokens"),
        ("Vocabulary", f"{material.subject.tokenizer.vocab_size:,} tokens"),
        ("Trained on", f"{run.log.train[-1]['tokens_seen']:,} tokens" if run and run.log.train else ""),
        ("Bits per byte", _headline(material)),
        ("Licence", _license(material)),
        ("Languages", ", ".join(about.languages)),
        ("By", plain(", ".join(filter(None, (about.author, about.publisher))))),
        ("Contact", plain(about.contact)),
        ("Weights, SHA-256", _weights(material)),
    ]
    return paragraphs(plain(said), facts(rows))


def _headline(material: Material) -> str:
    values = [
        f"{found.value['bits_per_byte']:.4f} on {plain(text_name(found))}"
        for found in material.results.of("evaluate")
        if isinstance(found.value.get("bits_per_byte"), float)
    ]
    run = material.subject.run
    if not values and run and run.best:
        values = [f"{run.best['bits_per_byte']:.4f} on the held-out text of the training"]
    return ", ".join(values)


def _license(material: Material) -> str:
    about = material.about
    if not about.license:
        return "not stated"
    return link(about.license_name or about.license, about.license_link)


def _weights(material: Material) -> str:
    subject = material.subject
    files = subject.named(".safetensors") or subject.named(".gguf")
    return f"`{files[0].sha256}`" if files else ""


def architecture(material: Material) -> str:
    """Return the table of sizes."""
    config, embedding = material.subject.config, material.subject.num_embedding_parameters
    tied = "tied: the embedding is the head too" if config.tie_word_embeddings else "embedding and head are two tables"
    padding = config.vocab_size - material.subject.tokenizer.vocab_size
    rows = [
        ("Class", _CARRIERS[config.carrier]),
        ("Parameters", f"**{config.num_parameters:,}**"),
        ("... without embeddings", f"{config.num_parameters - embedding:,}"),
        ("... of embeddings", f"{embedding:,} ({embedding / config.num_parameters:.1%}; {tied})"),
        ("Hidden size", f"{config.hidden_size:,}"),
        ("Layers", f"{config.num_hidden_layers}"),
        ("Query heads", f"{config.num_attention_heads} of {config.head_dim}"),
        ("Key and value heads", f"{config.num_key_value_heads}"),
        ("MLP size", f"{config.intermediate_size:,}"),
        ("Context", f"{config.max_position_embeddings:,} tokens"),
        ("Base of the rotary positions", f"{config.rope_theta:,.0f}"),
        ("Epsilon of the norms", f"{config.rms_norm_eps:g}"),
        ("Rows of the embedding", f"{config.vocab_size:,}" + (f", {padding:,} of them padding" if padding else "")),
    ]
    return facts(rows)


def tokenizer(material: Material) -> str:
    """Return what the tokenizer is, how far it gets with a token, and strings to know it by."""
    own = material.subject.tokenizer
    rows = [
        ("Algorithm", _algorithm(material)),
        ("Size", f"{own.vocab_size:,} tokens"),
        ("Ends a document", f"id {own.eos_token_id}"),
        ("Begins one", f"id {own.bos_token_id}" if own.bos_token_id != own.eos_token_id else "none of its own"),
        ("Padding", f"id {own.pad_token_id}"),
        ("Fingerprint, SHA-256", f"`{own.sha256}`"),
        *((f"Bytes per token: {name}", rate) for name, rate in _bytes_per_token(material)),
    ]
    golden = table(
        ("text, as JSON", "ids"),
        ((code(json.dumps(text, ensure_ascii=False)), code(", ".join(map(str, own.encode(text))))) for text in GOLDEN),
        numbers=(),
    )
    return paragraphs(
        facts(rows),
        "Golden strings: a program that gives other ids has another tokenizer, whatever it is called (no token is "
        "added before or after).",
        golden,
    )


def _algorithm(material: Material) -> str:
    return _ALGORITHMS.get(type(material.subject.tokenizer), "as its file says")


def _bytes_per_token(material: Material) -> Iterator[tuple[str, str]]:
    """Yield texts that were counted; the EOS after each document is among the tokens."""
    for found in material.results.of("evaluate"):
        if found.value.get("num_tokens"):
            yield plain(text_name(found)), found.read(lambda value: f"{value['num_bytes'] / value['num_tokens']:.3f}")
    last = material.subject.run.last if material.subject.run else {}
    if last.get("num_tokens") and last.get("num_bytes"):
        yield "held-out text of the training", f"{last['num_bytes'] / last['num_tokens']:.3f}"


def known_limits(material: Material) -> str:
    """Return what the model cannot do, measured or by its making."""
    config, own = material.subject.config, material.subject.tokenizer
    lines = [
        f"**Knowledge**: {config.num_parameters:,} parameters hold few facts. Take every statement for invented until "
        "it is checked.",
        "**Relevance**: it continues a text as text of its kind goes on; it neither answers nor obeys.",
        "**Coherence** is lost within a few sentences, long before the context is full.",
        f"**Context**: {config.max_position_embeddings:,} tokens at most; it has never seen a longer text.",
        f"**Vocabulary**: {own.vocab_size:,} tokens; text unlike what it was learned from takes more tokens, and is "
        "predicted worse.",
        "**No alignment** of any kind: no instructions, no preferences, no filter.",
        *map(plain, material.about.limits),
    ]
    return bullets(lines)
