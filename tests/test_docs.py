"""The documentation: every Python snippet of the guides runs as it stands, and what it names exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SNIPPETS = [
    pytest.param(code, id=f"{page}-{number}", marks=[pytest.mark.slow] if "studies.run(" in code else [])
    for page in ("extending", "models", "study")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.S))
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_snippets_run_as_they_stand(code: str, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATCHSCALE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "snippet.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


def test_every_page_is_in_the_navigation_and_there() -> None:
    pages = _leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(pages) == sorted(file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md"))


def test_the_list_of_presets_is_complete() -> None:
    from patchscale.studies import preset_names

    table = (DOCS / "study.md").read_text()
    assert [name for name in preset_names() if f"`{name}`" not in table] == []


def test_relative_links_of_the_readme_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def _leaves(entry: object) -> list[str]:
    if isinstance(entry, dict):
        return [leaf for value in entry.values() for leaf in _leaves(value)]
    return [leaf for value in entry for leaf in _leaves(value)] if isinstance(entry, list) else [str(entry)]
