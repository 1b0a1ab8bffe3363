"""The pages of the documentation: their links, anchors and blocks of code."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"


@dataclass(frozen=True)
class Page:
    """A file of Markdown.

    Attributes:
        path: where it is.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(REPOSITORY))

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tokens(self) -> list[Token]:
        return MarkdownIt().enable("table").parse(self.text)

    @cached_property
    def links(self) -> list[str]:
        """Targets of its links and images, in their order."""
        inline = [child for token in self.tokens for child in token.children or ()]
        targets = [token.attrGet("href") or token.attrGet("src") for token in inline]
        return [str(target) for target in targets if target]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link to one of its headings may name, as GitHub makes it of the heading's text."""
        seen: Counter[str] = Counter()
        anchors = set()
        for opening, content in zip(self.tokens, self.tokens[1:], strict=False):
            if opening.type == "heading_open":
                text = "".join(child.content for child in content.children or ())
                slug = _slug(text)
                anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
                seen[slug] += 1
        return anchors

    def blocks(self, language: str) -> list[str]:
        """Its fenced blocks of code in a language."""
        return [token.content for token in self.tokens if token.type == "fence" and token.info == language]

    def commands(self) -> Iterator[str]:
        """Lines of its shell blocks; those that end in a backslash are joined with the next."""
        for block in self.blocks("bash"):
            yield from filter(None, map(str.strip, block.replace("\\\n", " ").splitlines()))


def pages() -> list[Page]:
    """README, and all pages of docs/."""
    return [Page(README), *map(Page, sorted((REPOSITORY / "docs").glob("*.md")))]


def dead_links(page: Page) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of it. Links to other hosts are not followed."""
    dead = []
    for link in page.links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.path.parent / name if name else page.path
        if not target.exists() or (anchor and anchor not in Page(target).anchors):
            dead.append(link)
    return dead


def _slug(heading: str) -> str:
    kept = (c for c in heading.strip().lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")
