"""What the licences of texts ask of a model that was made from them, as far as a program can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stentor.report.card.about import DataSource
from stentor.report.card.markdown import plain

_SHARE_ALIKE = re.compile(r"(^|[\s/,(-])(cc-by(-nc)?-sa|gfdl|gpl|agpl|lgpl|odbl|ms-rl)", re.IGNORECASE)
_NON_COMMERCIAL = re.compile(r"(^|-)nc(-|$)", re.IGNORECASE)
_NO_DERIVATIVES = re.compile(r"(^|-)nd(-|$)", re.IGNORECASE)
_IDENTIFIERS = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr
mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma
unknown other
"""
KNOWN = frozenset(_IDENTIFIERS.split())
"""Identifiers that the Hugging Face Hub takes as a licence of a repository."""


def is_share_alike(license_id: str) -> bool:
    """Whether a licence asks that what is adapted from a work is shared under the same terms."""
    return bool(_SHARE_ALIKE.search(license_id))


def license_notes(sources: Sequence[DataSource], license_of_model: str) -> list[str]:
    """Say in a sentence or two each what the licences of training texts mean for a model.

    Args:
        sources: what it was trained on.
        license_of_model: identifier; empty where none was given.
    """
    notes = []
    if shared := [source for source in sources if is_share_alike(source.license)]:
        notes.append(_share_alike_note(shared, sources, license_of_model))
    for pattern, what in ((_NON_COMMERCIAL, "non-commercial use"), (_NO_DERIVATIVES, "use without changes")):
        if found := [source for source in sources if pattern.search(source.license)]:
            notes.append(f"Licensed for {what} alone: {_names(found)}. Whether that binds a model is not settled.")
    if unknown := [source for source in sources if source.license in ("", "unknown", "other")]:
        notes.append(f"**Licence not known**: {_names(unknown)}. Ask before you build on it.")
    return notes


def _names(sources: Sequence[DataSource]) -> str:
    return plain(", ".join(source.name for source in sources))


def _share_alike_note(shared: Sequence[DataSource], sources: Sequence[DataSource], license_of_model: str) -> str:
    whole, part = (sum(source.num_bytes for source in some) for some in (sources, shared))
    share = f" ({part / whole:.1%} of the counted bytes)" if whole and part else ""
    licences = plain(", ".join(sorted({source.license for source in shared})))
    if not license_of_model:
        chosen = "No licence of the weights is stated here; the cautious choice is one of these."
    elif is_share_alike(license_of_model):
        chosen = f"The weights are released under {plain(license_of_model)}, which is share-alike too."
    else:
        chosen = (
            f"The weights are released under {plain(license_of_model)}, which is not share-alike: that takes the view "
            "that weights are no adaptation of the text. Who holds the other view must treat them under the text's "
            "licence."
        )
    return (
        f"**Share-alike text**{share}: {_names(shared)}, under {licences}. Whether "
        f"weights are an adaptation of the text they were trained on is not settled in law. {chosen} A passage that "
        "the model repeats word for word stays under the licence of its text, with its duty to name the authors: see "
        "[memorisation](#memorisation-and-contamination). This is no legal advice."
    )
