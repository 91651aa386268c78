"""Tables of scores as text: aligned for a terminal, or Markdown."""


def interval_text(estimate: dict, signed: bool = False) -> str:
    """ "0.174 [0.150, 0.205]" of an estimate as `scores.json` has it; "n/a" where there is no value."""
    if estimate["value"] is None:
        return "n/a"
    sign = "+" if signed else ""
    text = f"{estimate['value']:{sign}.3f}"
    return text if estimate["low"] is None else f"{text} [{estimate['low']:{sign}.3f}, {estimate['high']:{sign}.3f}]"


def aligned(rows: list[list[str]]) -> str:
    """Columns padded with spaces; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(rows: list[list[str]]) -> str:
    """A table in Markdown; the first row is the header."""
    header, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
