"""The parts of a report, which are written as HTML and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Attributes:
        text: its text.
        strong: whether it is set in bold.
        note: whether it explains a table or figure above it.
    """

    text: str
    strong: bool = False
    note: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list.

    Attributes:
        items: text of each item.
    """

    items: tuple[str, ...]


@dataclass(frozen=True)
class Preformatted:
    """Text whose line breaks count, such as a command or a file."""

    text: str


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its title.
        number: whether its cells are numbers, aligned to the right.
        wraps: whether its cells are sentences, which may take several lines.
    """

    title: str
    number: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: text of each cell, in the order of the columns.
        strong: whether it is set in bold.
        shaded: whether it is shaded; another cell or heading says the same in words.
    """

    cells: tuple[str, ...]
    strong: bool = False
    shaded: bool = False


@dataclass(frozen=True)
class Group:
    """Rows of a table that belong together.

    Attributes:
        rows: the rows.
        title: heading of the group; empty without one.
    """

    rows: tuple[Row, ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        columns: its columns.
        groups: its rows, in at least one group.
        header: number of the column whose cells name their rows, from 0.
    """

    caption: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    header: int = 0


@dataclass(frozen=True)
class Figure:
    """A figure; Markdown has its title and its text alternative in its place.

    Attributes:
        figure: the figure; its own title becomes the caption.
        alternative: what it shows, in words, for those who cannot see it.
    """

    figure: go.Figure
    alternative: str

    @property
    def title(self) -> str:
        """The title."""
        return str(self.figure.layout.title.text)


Plain = Paragraph | Bullets | Preformatted | Table | Figure


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when a reader asks for them.

    Attributes:
        title: what they are.
        blocks: the blocks.
    """

    title: str
    blocks: tuple[Plain, ...]


Block = Plain | Folded


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        title: its heading.
        blocks: what follows it.
    """

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        title: its heading.
        notice: its first line, which says that the study is not finished; None for one that is.
        warnings: reasons to doubt the result, a sentence each.
        answer: the result in short; the first paragraph names the winner.
        sections: everything else.
    """

    title: str
    notice: str | None
    warnings: tuple[str, ...]
    answer: tuple[Paragraph, ...]
    sections: tuple[Section, ...]
