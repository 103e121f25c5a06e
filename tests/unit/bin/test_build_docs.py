"""The documentation site is built without warnings, and its menu is the index's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bin.build_docs import broken_in_site, build, indent_lists, navigation
from bin.check_docs import INDEX, REPOSITORY, Checker

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once, strictly."""
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def listed_pages() -> list[str]:
    """The pages that the menu shows, in its order."""
    pages: list[str] = []
    for section in navigation(Checker(REPOSITORY)):
        for value in section.values():
            entries = value if isinstance(value, list) else [{"": value}]
            pages += [path for entry in entries for path in entry.values()]
    return pages


def test_site_has_every_page(site: Path) -> None:
    """Each page under `docs` becomes one of the site, and the front page is its home."""
    assert (site / "index.html").exists()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        relative = page.relative_to(REPOSITORY).with_suffix("")
        folder = relative.parent if page.name == "README.md" else relative
        assert (site / folder / "index.html").exists()


def test_menu_has_every_page() -> None:
    """The menu names each page under `docs` once."""
    pages = [path for path in listed_pages() if path.startswith("docs/")]
    expected = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "docs").rglob("*.md"))
    assert sorted(pages) == sorted(map(str, expected))
    assert listed_pages()[:2] == ["README.md", INDEX]


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    """No page of the site loads a font, a script or a style sheet from another host."""
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert 'src="http' not in text
        assert "fonts.googleapis.com" not in text


@pytest.mark.parametrize("link", ["gone/", "page/#gone", "#gone", "gone.png"])
def test_broken_link_of_the_site_is_found(tmp_path: Path, link: str) -> None:
    """A link of the built HTML to a file or an anchor that it lacks is a problem."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text('<h1 id="here">Page</h1>')
    good = '<a href="page/#here">x</a><a href="https://x.example">y</a>'
    (tmp_path / "index.html").write_text(good)
    assert list(broken_in_site(tmp_path)) == []
    (tmp_path / "index.html").write_text(f'{good}<a href="{link}">z</a>')
    (problem,) = broken_in_site(tmp_path)
    assert problem.startswith("index.html: broken ")
    assert problem.endswith(link)


def test_lists_are_indented_for_the_site() -> None:
    """The content of a list moves to four spaces for each level; code keeps its own indent."""
    before = "1. One\n\n   ```py\n   if x:\n       y\n   ```\n2. Two\n   - Inner\n     more\n"
    after = (
        "1. One\n\n    ```py\n    if x:\n        y\n    ```\n2. Two\n\n    - Inner\n        more\n"
    )
    assert indent_lists(before) == after


def test_list_after_a_paragraph_is_set_apart() -> None:
    """A list that follows a paragraph directly gets the blank line that the generator needs."""
    assert indent_lists("Text:\n- one\n- two\n") == "Text:\n\n- one\n- two\n"
