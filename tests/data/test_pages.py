"""Long page images: built from PDFs, read in bands, with labels that need nobody."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from patchscale.cli import app
from patchscale.data import DataSpec, load
from patchscale.data.pages import build_pages, line_density, load_documents
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, Regularisation, build_task, evaluate


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


class TestLabelledPages:
    @pytest.fixture
    def papers(self, tmp_path):
        """Two papers of five flat pages: page n of the first has value 20 n, of the second 100 + 20 n."""
        rows = []
        for number, name in enumerate(("first", "second")):
            for page in range(1, 6):
                file = f"{name}_{page}.png"
                Image.new("L", (20, 30), 100 * number + 20 * page).save(tmp_path / file)
                rows.append({"doc": name, "page": page, "image": file, "height": 30, "width": 20})
        (tmp_path / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    def images(self, folder, split, size=(60, 20), **options):
        spec = DataSpec(name=str(folder), test_fraction=0.4, **{"pages_per_image": 2, **options})
        return load(spec, split, size)

    def values(self, images):
        """[n][page]: the value of each page of each image."""
        pixels = images.read(range(len(images)))
        return pixels[:, 0, 15::30, 10].tolist()

    @pytest.mark.parametrize("memory_gib", [4.0, 0.0])
    def test_which_paper(self, papers, memory_gib):
        train, test = (self.images(papers, split, memory_gib=memory_gib) for split in ("train", "test"))
        assert train.classes == test.classes == ("first", "second")
        assert self.values(train) == [[20, 40], [40, 60], [120, 140], [140, 160]]
        assert train.labels.tolist() == [0, 0, 1, 1]
        assert self.values(test) == [[80, 100], [180, 200]], "pages of both splits are in no image"

    def test_page_order(self, papers):
        train = self.images(papers, "train", (90, 20), page_label="order", pages_per_image=3)
        assert train.classes == ("in order", "exchanged")
        assert self.values(train) == [[20, 40, 60], [40, 60, 20], [120, 140, 160], [140, 160, 120]]
        assert train.labels.tolist() == [0, 1, 0, 1]

    def test_another_number_of_pages_is_another_set(self, papers):
        assert self.values(self.images(papers, "train", (30, 20), pages_per_image=1))[0] == [20]
        assert self.values(self.images(papers, "train"))[0] == [20, 40]

    def test_what_is_left_out_belongs_to_the_number_of_pages(self, papers):
        (papers / "second_1.png").write_bytes(b"no picture")
        options = {"bad_images": "skip", "memory_gib": 0.0}
        one = self.images(papers, "train", (30, 20), pages_per_image=1, **options)
        assert self.values(one) == [[20], [40], [60], [140], [160]]
        two = self.images(papers, "train", **options)
        assert self.values(two) == [[20, 40], [40, 60], [140, 160]]
        assert two.labels.tolist() == [0, 0, 1]

    def test_the_paper_is_learned_and_known_by_other_pages(self, papers):
        data = DataSpec(name=str(papers), pages_per_image=2, test_fraction=0.4)
        spec = ModelSpec(name="deit_atto_patch16", patch_size=10, input_size=(60, 20))
        task = build_task("classification", spec, data, {}, Regularisation())
        torch.manual_seed(0)
        model = task.build_model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        every = torch.arange(task.train_size)
        for step in range(60):
            optimizer.zero_grad()
            task.loss(model, task.batch(every, step, slice(None))).backward()
            optimizer.step()
        scores = evaluate(task, model.eval(), torch.device("cpu"), nullcontext)
        assert scores["top1"] == 1.0

    def test_a_built_set_has_both(self, paper):
        data = DataSpec(name=str(paper[0]), page_label="order", pages_per_image=2, test_fraction=0.4)
        train = load(data, "train", (1132, 400))
        assert len(train) == 4
        first, exchanged = train.read([0, 1])
        assert torch.equal(first[:, :566], exchanged[:, 566:])
        assert torch.equal(first[:, 566:], exchanged[:, :566])
        assert len(load(data.model_copy(update={"page_label": "paper"}), "train", (1132, 400))) == 2

    def test_what_does_not_fit_is_named(self, papers):
        with pytest.raises(InputError, match="give test_fraction"):
            load(DataSpec(name=str(papers)), "train", (30, 20))
        with pytest.raises(InputError, match=r"no paper has 4 pages for train with test_fraction 0\.4"):
            self.images(papers, "train", pages_per_image=4)
        with pytest.raises(InputError, match="pages_per_image 1 has no order"):
            self.images(papers, "train", page_label="order", pages_per_image=1)
