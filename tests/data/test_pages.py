"""Long page images: built from PDFs, read in bands, with labels that need nobody."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from patchscale.cli import app
from patchscale.data.pages import build_pages, line_density, load_documents, page_order_pairs
from patchscale.errors import InputError


@pytest.fixture(scope="module")
def paper(real_data, tmp_path_factory):
    """One paper of doc-pages, built at a width of 400 pixels, five pages high."""
    pytest.importorskip("pypdfium2", reason="reading PDFs needs pypdfium2")
    source, out = tmp_path_factory.mktemp("pdfs"), tmp_path_factory.mktemp("set")
    shutil.copy(real_data / "doc-pages" / "jose.00138" / "jose.00138.pdf", source)
    rows = build_pages(source, out, width=400, max_height=3000)
    return out, rows


class TestBuild:
    def test_one_image_and_a_table_of_its_pages(self, paper):
        out, rows = paper
        assert [row["page"] for row in rows] == [1, 2, 3, 4, 5]
        assert rows[0]["left_out"] > 0
        with Image.open(out / "jose.00138.png") as image:
            assert image.size == (400, sum(row["height"] for row in rows))
            assert image.height <= 3000
        assert rows[3]["top"] == sum(row["height"] for row in rows[:3])
        assert [json.loads(line) for line in (out / "pages.jsonl").read_text().splitlines()] == rows

    def test_text_lines_lie_where_the_ink_is(self, paper):
        out, rows = paper
        with Image.open(out / "jose.00138.png") as image:
            ink = (255 - np.asarray(image.convert("L")).astype(float)).mean(1)
        inside = np.zeros(len(ink), bool)
        for row in rows:
            assert row["words"] > 50
            for upper, lower in row["lines"]:
                assert row["top"] <= upper <= lower <= row["top"] + row["height"]
                inside[upper : lower + 1] = True
        assert 0.05 < inside.mean() < 0.7
        assert ink[inside].mean() > 1.5 * ink[~inside].mean()

    def test_words_are_those_of_the_text_layer_as_others_read_it(self, paper, real_data):
        table = (real_data / "doc-pages" / "pages.jsonl").read_text().splitlines()
        known = {(r["doc"], r["page"]): r["words"] for r in map(json.loads, table)}
        for row in paper[1]:
            assert row["words"] == pytest.approx(known[row["doc"], row["page"]], rel=0.1)

    def test_what_cannot_be_built_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no PDF in"):
            build_pages(tmp_path, tmp_path / "out")
        (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
        with pytest.raises(InputError, match=r"broken\.pdf cannot be read as a PDF"):
            build_pages(tmp_path, tmp_path / "out")
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
        with pytest.raises(InputError, match="several PDFs are called broken"):
            build_pages(tmp_path, tmp_path / "out")

    def test_command(self, paper, real_data, tmp_path):
        pdf = real_data / "doc-pages" / "jose.00138" / "jose.00138.pdf"
        words = ["pages", str(pdf), str(tmp_path / "set"), "--width", "160", "--json"]
        made = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
        assert made[0]["doc"] == "jose.00138"
        assert made[0]["tokens"] == 10 * -(-226 // 16) * made[0]["pages"]
        with pytest.raises(InputError, match="no folder or PDF at"):
            CliRunner().invoke(app, ["pages", str(tmp_path / "none"), str(tmp_path)], catch_exceptions=False)


class TestRead:
    def test_bands_are_the_pages(self, paper):
        (document,) = load_documents(paper[0])
        with Image.open(paper[0] / "jose.00138.png") as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        rows, cols = document.grid(16)
        bands = list(document.bands(120, 16))
        assert all(band.shape[1] % 16 == 0 and band.shape[1] <= 112 for band in bands)
        assert (sum(band.shape[1] for band in bands), bands[0].shape[2]) == (16 * rows, 16 * cols)
        assert torch.equal(bands[0][:, :112, :400], pixels[:, :112])
        assert torch.equal(bands[1][:, :112, :400], pixels[:, 112:224])
        page = document.pages[0].height
        last = bands[-(-page // 112) - 1]
        assert (last[:, page % 112 :] == 255).all(), "white below the page's last row"

    def test_page_images_of_a_paper_are_one_document(self, real_data):
        documents = load_documents(real_data / "doc-pages")
        assert len(documents) == 8
        assert sum(len(document.pages) for document in documents) == 58
        first = documents[0]
        assert (first.width, first.height) == (1241, 10 * 1754)
        band = next(first.bands(64, 16))
        assert band.shape == (3, 64, 1248)
        rows, cols = first.grid(16)
        assert rows * cols == 10 * 110 * 78

    def test_stitched_images_without_a_table(self, tmp_path):
        Image.new("L", (50, 300), 200).save(tmp_path / "long.png")
        (document,) = load_documents(tmp_path)
        assert (document.name, document.height, document.width) == ("long", 300, 50)
        assert [band.shape[1] for band in document.bands(128, 16)] == [128, 128, 48]
        with pytest.raises(InputError, match="no text lines in its table"):
            line_density(document, 16)
        with pytest.raises(InputError, match="bands of 8 rows hold no patch of 16"):
            next(document.bands(8, 16))

    def test_what_cannot_be_read_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no folder of documents"):
            load_documents(tmp_path / "none")
        with pytest.raises(InputError, match=r"holds neither pages\.jsonl nor images"):
            load_documents(tmp_path)
        (tmp_path / "pages.jsonl").write_text('{"doc": "a", "page": 1}\n')
        with pytest.raises(InputError, match=r"pages\.jsonl, line 1: not a page"):
            load_documents(tmp_path)
        row = {"doc": "a", "page": 1, "image": "a.png", "height": 32, "width": 32}
        (tmp_path / "pages.jsonl").write_text(json.dumps(row) + "\n")
        (tmp_path / "a.png").write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"cannot read the page image .*a\.png"):
            next(load_documents(tmp_path)[0].bands(16, 16))


class TestLabels:
    def test_every_text_line_is_counted_once_in_its_row(self, paper):
        (document,) = load_documents(paper[0])
        density = line_density(document, 16)
        assert density.shape == (document.grid(16)[0],)
        assert density.sum() == sum(len(page.lines) for page in document.pages)
        assert density[0] == 0, "a page begins with a margin"

    def test_page_order_pairs_are_neighbours_and_honest(self, paper):
        (document,) = load_documents(paper[0])
        pairs = page_order_pairs(document, torch.Generator().manual_seed(1))
        assert [{a, b} for a, b, _ in pairs] == [{i, i + 1} for i in range(4)]
        assert all(before == (a < b) for a, b, before in pairs)
        assert {before for *_, before in pairs} == {True, False}
