"""A finished run becomes one HTML file: its result, curves, samples and numbers, and how to go on.

The page loads nothing from anywhere. What the model wrote is untrusted text and is escaped like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stentor.report.curves import Quantity, plot_curves
from stentor.report.dynamics import plot_dynamics
from stentor.report.html import escaped, inline, render, section
from stentor.report.results import COLUMNS, result_rows
from stentor.report.run_log import RunLog

_CURVES: tuple[tuple[Quantity, str], ...] = (("loss_nats", "Loss"), ("perplexity", "Perplexity"))


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model wrote after a prompt."""

    prompt: str
    continuation: str


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file or folder the run made, its size in bytes, and what opens it."""

    path: str
    size_bytes: int
    opened_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """All that the page shows; the caller measures, the page only writes.

    Attributes:
        name: of the run.
        description: one sentence on the recipe.
        num_parameters: trained values, a tied embedding counted once.
        tokens_seen: tokens trained on.
        seconds: time the training took.
        device: what it was trained on, with the precision.
        tokenizer: its name and size, without which a perplexity says nothing.
        loss_nats, perplexity, bits_per_byte, num_tokens, num_bytes: the evaluation on held-out text.
        gzip_bits_per_byte, xz_bits_per_byte, unigram_bits_per_byte: the baselines on the same text.
        log: the run's log, whose curves are drawn; None leaves them out.
        samples: continuations to show.
        files: what was shipped.
        origin: how it was made, by name: corpus and recipe hashes, versions.
        commands: how to go on: what each does, and the command.
    """

    name: str
    description: str = ""
    num_parameters: int
    tokens_seen: int
    seconds: float
    device: str
    tokenizer: str
    loss_nats: float
    perplexity: float
    bits_per_byte: float
    num_tokens: int
    num_bytes: int
    gzip_bits_per_byte: float
    xz_bits_per_byte: float
    unigram_bits_per_byte: float
    log: RunLog | None = None
    samples: tuple[Sample, ...] = ()
    files: tuple[ShippedFile, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


def render_run_report(report: RunReport) -> str:
    """Return the report as one self-contained HTML page, for wide and narrow, light and dark screens.

    Raises:
        MissingDependencyError: there is a log to draw and matplotlib is not installed.
    """
    sections = (_comparison, _curves, _samples, _numbers, _results, _dynamics, _files, _commands, _origin)
    return render(
        kind="Stentor run report",
        name=report.name,
        description=report.description,
        result=_result(report),
        sections=(write(report) for write in sections),
    )


def _result(report: RunReport) -> str:
    better = [name for name, bits in _compressors(report) if report.bits_per_byte < bits]
    verdict = {
        2: "It predicts text it never saw better than either program packs that text.",
        1: f"It beats {' and '.join(better)}, and not yet the other: more data or more steps would help.",
        0: "It does not beat them yet: more data or more steps would help.",
    }[len(better)]
    needs = ", ".join(f"{name} {bits:.2f}" for name, bits in _compressors(report)).replace(" ", " needs ", 1)
    return f"<strong>{report.bits_per_byte:.2f} bits per byte</strong> on held-out text: {needs}. {verdict}"


def _compressors(report: RunReport) -> tuple[tuple[str, float], ...]:
    return ("gzip", report.gzip_bits_per_byte), ("xz", report.xz_bits_per_byte)


def _comparison(report: RunReport) -> str:
    rows = [
        ("this model", report.bits_per_byte),
        ("xz -9e", report.xz_bits_per_byte),
        ("gzip -9", report.gzip_bits_per_byte),
        ("token unigram", report.unigram_bits_per_byte),
    ]
    longest = max(bits for _, bits in rows)
    body = "\n".join(
        f'<tr{" class=ours" if name == "this model" else ""}><th scope="row">{name}</th>'
        f'<td><span class="bar"><i style="width:{82 * bits / longest:.1f}%"></i><b>{bits:.3f}</b></span></td></tr>'
        for name, bits in rows
    )
    note = (
        "Fewer bits per byte is better. xz and gzip pack the same text alone; the unigram codes each token by its "
        "frequency in that very text. The model learned from other text and sees this one for the first time."
    )
    head = '<thead hidden><tr><th scope="col">predictor</th><th scope="col">bits per byte</th></tr></thead>'
    table = f'<table class="bars"><caption>{note}</caption>{head}<tbody>\n{body}\n</tbody></table>'
    return section("Bits per byte", f'<div class="card">{table}</div>')


def _curves(report: RunReport) -> str:
    if report.log is None or not report.log.evaluations:
        return ""
    best = report.log.best_evaluation
    figures = ""
    for quantity, title in _CURVES:
        first = report.log.evaluations[0][quantity]
        label = f"{title} against the optimizer step: {first:.2f} at first, {best[quantity]:.2f} at best"
        svg = plot_curves(report.log, quantities=(quantity,))
        figures += f'<figure class="card">{inline(svg, quantity, label)}</figure>\n'
    return section("Learning curves", f'<div class="curves">\n{figures}</div>')


def _samples(report: RunReport) -> str:
    quotes = "\n".join(
        f'<blockquote class="card" dir="auto"><b>{escaped(sample.prompt)}</b>'
        f"{escaped(sample.continuation)}</blockquote>"
        for sample in report.samples
    )
    note = '<p class="note">The prompt is in colour; everything after it was written by the model.</p>'
    return section("Samples", f"{note}\n{quotes}") if quotes else ""


def _numbers(report: RunReport) -> str:
    trained = {
        "parameters": f"{report.num_parameters:,}",
        "tokens trained on": f"{report.tokens_seen:,}",
        "time": _duration(report.seconds),
        "tokens per second": f"{report.tokens_seen / report.seconds:,.0f}" if report.seconds > 0 else "unknown",
        "device": escaped(report.device),
    }
    measured = {
        "bits per byte": f"{report.bits_per_byte:.4f}",
        "loss": f"{report.loss_nats:.4f} <small>nats per token</small>",
        "perplexity": f"{report.perplexity:,.2f}",
        "tokenizer": escaped(report.tokenizer),
        "held-out text": f"{report.num_bytes:,} <small>bytes</small>, {report.num_tokens:,} <small>tokens</small>",
    }
    note = '<p class="note">Perplexity counts per token: compare it only between models of the same tokenizer.</p>'
    tables = f"{_rows(trained.items())}\n{_rows(measured.items())}"
    return section("Numbers", f'<div class="card pairs">\n{tables}\n</div>\n{note}')


def _results(report: RunReport) -> str:
    """Lay out every evaluation of the run, the best one marked."""
    if report.log is None or not report.log.evaluations:
        return ""
    head = "".join(f'<th scope="col">{name or "<span hidden>mark</span>"}</th>' for name in COLUMNS)
    body = "\n".join(
        f'<tr{" class=ours" if is_best else ""}><th scope="row">{step}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for (step, *cells), is_best in result_rows(report.log)
    )
    table = f'<table class="rows steps"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
    return section("Results by step", f'<div class="card scrolls" tabindex="0">{table}</div>')


def _dynamics(report: RunReport) -> str:
    if report.log is None or not report.log.scales:
        return ""
    note = (
        '<p class="note">RMS is the root of the mean square. Activations are those of a little held-out text, '
        "the same every time.</p>"
    )
    label = "How the run went: rates, gradients, speed, and the scale of weights and activations in each layer"
    svg = inline(plot_dynamics(report.log), "dynamics", label)
    return section("Training dynamics", f'{note}\n<figure class="card scrolls wide" tabindex="0">{svg}</figure>')


def _files(report: RunReport) -> str:
    body = "\n".join(
        f'<tr><th scope="row">{escaped(file.path)}</th><td>{escaped(file.opened_by)}</td>'
        f"<td>{_size(file.size_bytes)}</td></tr>"
        for file in report.files
    )
    head = '<tr><th scope="col">file</th><th scope="col">opens in</th><th scope="col">size</th></tr>'
    table = f'<table class="rows files"><thead>{head}</thead><tbody>\n{body}\n</tbody></table>'
    return section("Files", f'<div class="card">{table}</div>') if body else ""


def _origin(report: RunReport) -> str:
    rows = _rows(((escaped(name), escaped(value)) for name, value in report.origin.items()), "rows made")
    return section("How it was made", f'<div class="card">{rows}</div>') if report.origin else ""


def _commands(report: RunReport) -> str:
    entries = "\n".join(
        f'<dt>{escaped(what)}</dt><dd><pre tabindex="0"><code>{escaped(command)}</code></pre></dd>'
        for what, command in report.commands.items()
    )
    return section("Go on", f'<dl class="card">\n{entries}\n</dl>') if entries else ""


def _rows(rows: Iterable[tuple[str, str]], style: str = "rows") -> str:
    """Lay out names and values, which are HTML already."""
    body = "\n".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows)
    return f'<table class="{style}"><tbody>\n{body}\n</tbody></table>'


def _size(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit == "B" else f"{num_bytes:,.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
