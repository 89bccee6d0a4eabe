"""Sections on what the model is for, what it is not for, and whom it may harm."""

from __future__ import annotations

from collections.abc import Iterator

from stentor.report.card.licenses import is_share_alike
from stentor.report.card.markdown import bullets, paragraphs, plain, table
from stentor.report.card.subject import Material

_ENGLISH, _MOST_NAMES = ("en",), 3


def uses(material: Material) -> str:
    """Return uses with how well the model suits them."""
    words = (
        "A research artifact: a base model without instructions, safety tuning or a hold on facts. Every use below is "
        "one by researchers and developers."
    )
    return paragraphs(words, table(("use", "suitability", "why"), _use_rows(material), numbers=()))


def _use_rows(material: Material) -> Iterator[tuple[str, str, str]]:
    config, subject = material.subject.config, material.subject
    parameters = f"{config.num_parameters / 1e6:.1f}M parameters"
    log = "recipe, seed and course are on this card" if subject.run else "weights and sizes are on this card"
    yield "Studying how transformers learn", "high", f"{parameters}; {log}"
    yield "Work on tokenizers", "high", f"{subject.tokenizer.vocab_size:,} tokens, with golden strings to check against"
    yield "Measuring inference on CPUs, phones, browsers", "high", "small enough to run anywhere"
    yield "Testing quantization and conversion", "high", "plain files in known formats, with checksums"
    yield (
        "Teaching",
        "high",
        f"{config.num_hidden_layers} layers of {config.hidden_size}: small enough to follow by hand",
    )
    yield (
        "Drafting for speculative decoding",
        "high for a target with this vocabulary",
        "another vocabulary costs most of the gain",
    )
    yield "Fine-tuning on a narrow task", "moderate", "it learns fast, and holds little"
    yield "Continuing text", "moderate", "a sentence or two; then it wanders"
    yield "Answering questions", "not suitable", "no reliable knowledge of the world"
    yield "Following instructions, chat", "not suitable", "a base model: it was never shown any"
    yield "Products and services", "not suitable", "no safety tuning"
    yield (
        "Long coherent text",
        "not suitable",
        f"a context of {config.max_position_embeddings:,} tokens, and coherence ends earlier",
    )
    if languages := material.about.languages:
        yield (
            f"Languages other than {', '.join(languages)}",
            "not suitable",
            "neither its text nor its vocabulary has them",
        )


def out_of_scope(material: Material) -> str:
    """Return uses that must not be tried."""
    lines = [
        "**Anything that people who are not told use**: nothing filters what it says.",
        "**Advice on health, law, money or safety**: what it says of them is invented.",
        "**Statements about real people**: it does not know who is real.",
        "**Text for publication without a reader in between**: false, repetitive or harmful passages will pass.",
        "**Decisions about people**, in any form.",
        "**Instructions**: it is no assistant, whatever the prompt says.",
    ]
    if any(is_share_alike(source.license) for source in material.about.of_role("training")):
        lines.append(
            "**Text that must be free of share-alike duties**, without a search for passages of its training text."
        )
    return bullets(lines)


def _first_of(names: list[str]) -> list[str]:
    """Return some names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return names if more <= 1 else [*names[:_MOST_NAMES], f"and {more} more"]


def ethics(material: Material) -> str:
    """Return what the model inherits, and what was not done about it."""
    sources = [plain(source.name) for source in material.about.of_role("training")]
    named = f" ({', '.join(_first_of(sources))})" if sources else ""
    languages = material.about.languages
    lines = [
        f"**Its text is its world view.** It repeats what its training text{named} says most, with the views, gaps "
        "and errors of those who wrote it. Who is seldom written about there is seldom, or wrongly, written about by "
        "it.",
        "**Stereotypes** of gender, origin, faith and work are in such text, and nothing was done to remove them "
        "from the model. It was not tested for them.",
        "**The past.** It knows nothing of what came after its text was written.",
        "**No safety training**: no feedback of people, no preferences, no filter of what goes in or comes out.",
        "**Private data** that is in the training text can come out again; "
        "[memorisation](#memorisation-and-contamination) says how often text does.",
    ]
    if tuple(languages) == _ENGLISH:
        lines.insert(1, "**English alone**, and with it mostly the places where English is written.")
    good = (
        "What speaks for it: a model of this size is trained, opened and understood by people without a data centre; "
        "its recipe and numbers are here to be checked."
    )
    return paragraphs(bullets(lines), good, "If you publish results, say that this is an unaligned base model.")
