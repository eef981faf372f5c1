"""Tables for a paper in LaTeX."""

import re

import pandas as pd

LONG = 40
"""Text length from which a column is set as paragraphs."""
MARKS = [
    (r"\*\*(.+?)\*\*", r"\\textbf{\1}"),
    (r"`(.+?)`", r"\\texttt{\1}"),
    (r"<br>", r"\\newline "),
    (r"(?<!\w)([-+])(?=\d)", r"$\1$"),
    (r"±", r"$\\pm$"),
    (r"[≥]", r"$\\geq$"),
    (r"[<>|]", r"$\g<0>$"),
]
"""Patterns in the escaped text of the tables, and their LaTeX."""


def latex_table(table: pd.DataFrame) -> str:
    """A data frame of text as a `tabular` that needs the package booktabs, keeping bold, code and line ends."""
    text = table.astype(str)
    long = [bool((text[name].str.len() >= LONG).any()) for name in text]
    width = f"p{{{0.75 / max(sum(long), 1):.2f}\\linewidth}}"
    style = text.style.hide(axis="index").format(_marked, escape="latex").format_index(escape="latex", axis="columns")
    body = style.to_latex(hrules=True, column_format="".join(width if wide else "l" for wide in long))
    return f"% \\usepackage{{booktabs}}\n{body}"


def _marked(escaped: str) -> str:
    for mark, replacement in MARKS:
        escaped = re.sub(mark, replacement, escaped)
    return escaped
