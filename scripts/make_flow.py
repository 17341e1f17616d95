"""Draw `docs/flow.svg`: the way from a document to a cited answer."""

from pathlib import Path

STAGES = [
    ("documents", "folder, files", "#e8eef7"),
    ("parse", "text + blocks", "#ffffff"),
    ("chunk", "exact spans", "#ffffff"),
    ("embed", "vectors", "#ffffff"),
    ("store", "one folder", "#e8eef7"),
]
QUESTION = [
    ("question", "any words", "#fdf1dc"),
    ("retrieve", "words + vectors", "#ffffff"),
    ("select", "token budget", "#ffffff"),
    ("answer", "verbatim or model", "#ffffff"),
    ("citations", "document, page, span", "#fdf1dc"),
]


def row(stages: list[tuple[str, str, str]], y: int) -> list[str]:
    """One row of boxes with arrows between them."""
    lines = []
    for i, (title, note, colour) in enumerate(stages):
        x = 10 + i * 170
        lines.append(
            f'<rect x="{x}" y="{y}" width="140" height="56" rx="6" fill="{colour}" '
            'stroke="#33415c"/>'
            f'<text x="{x + 70}" y="{y + 24}" font-weight="bold">{title}</text>'
            f'<text x="{x + 70}" y="{y + 43}" fill="#55617a" font-size="12">{note}</text>'
        )
        if i:
            lines.append(
                f'<path d="M{x - 30} {y + 28}h24" stroke="#33415c" marker-end="url(#arrow)"/>'
            )
    return lines


def main() -> None:
    """Write the file."""
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 850 230" font-family="sans-serif" '
        'font-size="15" text-anchor="middle">',
        '<defs><marker id="arrow" markerWidth="8" markerHeight="8" refX="6" refY="4" '
        'orient="auto"><path d="M0 0l8 4-8 4z" fill="#33415c"/></marker></defs>',
        '<rect width="850" height="230" fill="#ffffff"/>',
        *row(STAGES, 15),
        '<path d="M760 71v40H250v28" fill="none" stroke="#33415c" marker-end="url(#arrow)"/>',
        '<text x="505" y="104" fill="#55617a" font-size="12">one chunk identity, from the document '
        "to the citation</text>",
        *row(QUESTION, 150),
        "</svg>",
    ]
    (Path(__file__).parent.parent / "docs" / "flow.svg").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
