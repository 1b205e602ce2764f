"""The site's build fails where an equation is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.book.check import slips, unnoticed
from docs.book.pages import LANGUAGES, ROOT, cells, pages

MATERIALS = ROOT / "build" / "book"


def with_a_slip(text: str) -> str | None:
    """Return a page with one sign of one equation changed; None where it has no sign to change."""
    for cell in cells(text):
        if cell.role == "equation":
            for _, changed in slips(cell.source):
                return text.replace(f"```python\n{cell.source}```", f"```python\n{changed}\n```", 1)
    return None


def test_a_slip_changes_one_sign() -> None:
    text = '<details class="equation">\n\n```python\na = b - c\nassert a\n```\n\n</details>\n'
    assert with_a_slip(text) == text.replace("b - c", "b + c")
    assert with_a_slip(text.replace("b - c", "b")) is None
    assert list(unnoticed("a = b - c\nassert a == 1", {"b": 2, "c": 1})) == []


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_changed_sign_in_each_chapter_fails_the_build(language: str, tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
    if not MATERIALS.exists():
        pytest.skip("run first: python -m docs.book fetch")
    for folder in ("benchmarks", "docs", "npllm", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for name in ("LICENSE", "README.md", "README.zh.md", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "build").mkdir()
    shutil.copytree(MATERIALS, tmp_path / "build" / "book", symlinks=True)
    changed = []
    for page in pages(language):
        slipped = with_a_slip(page.read_text(encoding="utf-8"))
        if slipped is not None:
            (tmp_path / "docs" / language / page.name).write_text(slipped, encoding="utf-8")
            changed.append(page.name)
    build = [sys.executable, "-m", "docs.book", "build", "--out", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert not (tmp_path / "site").exists()
    named = set(re.findall(rf"{language}/(\w+\.md): cell \d+: ", done.stderr))
    assert len(changed) >= 20
    assert named == set(changed)
