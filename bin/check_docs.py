"""Documentation checker: finds broken links, broken anchors and orphan pages in the Markdown pages.

Run it as `python -m bin.check_docs`. It reads local files only, and fetches no URL. Anchors follow
the rules of code hosts: a heading in lower case, without punctuation, with hyphens for spaces.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[1]
INDEX = "docs/README.md"
PATTERNS = ("*.md", "docs/**/*.md", "models/**/README.md", ".github/**/*.md")
UNLISTED = re.compile(r"\.github/.*")
"""Pages that only the code host shows: they need no link."""

EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
HTML_LINK = re.compile(r"""\b(?:href|src)=["']([^"']+)["']""")
HTML_ANCHOR = re.compile(r"""\b(?:id|name)=["']([^"']+)["']""")
PUNCTUATION = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Link:
    """One link or picture of a page. `target` is as written; `line` is where its block begins."""

    target: str
    line: int
    picture: bool = False

    @property
    def external(self) -> bool:
        """Whether it leads out of the repository."""
        return bool(EXTERNAL.match(self.target))

    @property
    def path(self) -> str:
        """The file or folder, relative to the page; empty for a link within the page."""
        return unquote(self.target.partition("#")[0])

    @property
    def anchor(self) -> str:
        """The part after `#`, or an empty string."""
        return unquote(self.target.partition("#")[2])


@dataclass(frozen=True, slots=True)
class Page:
    """A Markdown page: its links in reading order, and the anchors that links can name."""

    links: tuple[Link, ...]
    anchors: frozenset[str]


def read_page(text: str) -> Page:
    """Parse the text of a page."""
    links: list[Link] = []
    anchors: set[str] = set()
    seen: Counter[str] = Counter()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    line = 0
    for n, token in enumerate(tokens):
        line = token.map[0] + 1 if token.map else line
        if token.type == "heading_open":
            anchors.add(_anchor(tokens[n + 1], seen))
        for each in (token, *(token.children or ())):
            links += _links(each, line)
            if each.type in {"html_block", "html_inline"}:
                anchors.update(HTML_ANCHOR.findall(each.content))
    return Page(tuple(links), frozenset(anchors))


def _links(token: Token, line: int) -> Iterator[Link]:
    if token.type == "link_open":
        yield Link(str(token.attrs["href"]), line)
    elif token.type == "image":
        yield Link(str(token.attrs["src"]), line, picture=True)
    elif token.type in {"html_block", "html_inline"}:
        for target in HTML_LINK.findall(token.content):
            yield Link(target, line)


def _anchor(heading: Token, seen: Counter[str]) -> str:
    """The anchor of a heading; a repeated one gets a number, as on code hosts."""
    text = "".join(each.content for each in heading.children or ())
    slug = PUNCTUATION.sub("", text.strip().lower()).replace(" ", "-")
    seen[slug] += 1
    return slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}"


def find_pages(root: Path) -> list[str]:
    """The paths of all pages that are checked, relative to the root."""
    found = {path for pattern in PATTERNS for path in root.glob(pattern)}
    return sorted(path.relative_to(root).as_posix() for path in found)


class Checker:
    """The pages of one repository. Each check yields its problems as "PATH:LINE: what is wrong"."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.pages = find_pages(self.root)
        self.read = cache(lambda path: read_page((self.root / path).read_text()))

    def problems(self) -> Iterator[str]:
        """All problems of all pages."""
        for path in self.pages:
            yield from self.broken_links(path)
        yield from self.orphans()

    def broken_links(self, path: str) -> Iterator[str]:
        """Links of one page to a file, a folder or an anchor that does not exist."""
        for link in self.read(path).links:
            if link.external:
                continue
            target = self.target(path, link)
            if target is None or not (self.root / target).exists():
                yield f"{path}:{link.line}: broken link: {link.target}"
            elif link.anchor and not self.has_anchor(target, link.anchor):
                yield f"{path}:{link.line}: broken anchor: {link.target}"

    def has_anchor(self, path: str, anchor: str) -> bool:
        """Whether a page has an anchor. Anchors of other files (line numbers) are not checked."""
        return not path.endswith(".md") or anchor in self.read(path).anchors

    def target(self, path: str, link: Link) -> str | None:
        """The path that a link names, relative to the root; None if it lies outside."""
        if not link.path:
            return path
        found = (self.root / path).parent.joinpath(link.path).resolve()
        return found.relative_to(self.root).as_posix() if self.root in found.parents else None

    def orphans(self) -> Iterator[str]:
        """Pages that readers cannot find: under `docs`, those that the index does not list."""
        listed = {self.target(INDEX, link) for link in self.read(INDEX).links}
        reached = self.reached()
        for path in self.pages:
            found = listed | {INDEX} if path.startswith("docs/") else reached
            if path not in found and not UNLISTED.fullmatch(path):
                yield f"{path}:1: orphan page: no link leads here from {INDEX}"

    def reached(self) -> set[str]:
        """Every file and folder that a reader can reach from the index, the index included."""
        reached: set[str] = set()
        waiting = [INDEX]
        while waiting:
            path = waiting.pop()
            if path in reached or not (self.root / path).exists():
                continue
            reached.add(path)
            if path.endswith(".md"):
                links = (link for link in self.read(path).links if not link.external)
                waiting += [found for link in links if (found := self.target(path, link))]
        return reached


def main() -> int:
    """Print every problem; return 1 if there is one."""
    checker = Checker(REPOSITORY)
    problems = list(checker.problems())
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"docs: {len(checker.pages)} pages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
