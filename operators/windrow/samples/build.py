"""Build the samples that ship with the package, byte for byte.

    python -m windrow.samples.build --data DIR --out DIR

``--data`` names the folder of the archives listed in ``SOURCES.md``; every one is checked against
its SHA-256. Writes ``reviews/day-N.parquet``, ``abstracts/day-N.parquet`` and so on for N from 0 to 6 and
prints their table. Rows are put in order by a seeded hash of their key, never by a generator, so
equal archives give equal rows on any machine (and equal bytes with the same pyarrow).
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from windrow.console import show_error
from windrow.errors import WindrowError
from windrow.models.corpora import held_out_mr
from windrow.samples import domains
from windrow.samples.reading import detokenise, documents, read, tidy

SEED = 2004
DAYS = 7
PRODUCT_REVIEWS = 560
FILM_REVIEWS = 60
FILM_SENTENCES = 210
ABSTRACTS, ABSTRACT_SENTENCES, SENTENCE_WORDS = 210, 5, 4
PRODUCTS = {
    "Apex_AD2600_Progressive_scan_DVD player": "Apex AD2600",
    "Canon_G3": "Canon G3",
    "Creative_Labs_Nomad_Jukebox_Zen_Xtra_40GB": "Creative Zen Xtra",
    "Nikon_coolpix_4300": "Nikon Coolpix 4300",
    "Nokia_6610": "Nokia 6610",
    "Canon_S100": "Canon S100",
    "Diaper_Champ": "Diaper Champ",
    "Hitachi_router": "Hitachi M12V router",
    "Linksys_Router": "Linksys router",
    "MicroMP3": "Creative Zen Micro",
    "Nokia_6600": "Nokia 6600",
    "norton": "Norton software",
}
"""File -> readable name. Left out: ipod and Canon SD500, which do not mark where reviews begin."""

TITLE = re.compile(r"^\**[ \t]*\[t\]", re.MULTILINE)
TAG = r"(?:[\[{](?:[+-]?\d|[+-]|u|p|s|cc|cs)(?:[\]}]+|(?=\[))|\((?:cc|cs)\))"
MARKS = re.compile(rf"(?<!\S)(?:(?:[\w /&'-]|\.(?=[\w\[]))*{TAG}+[\s,]*)+")
SIGN = re.compile(r"[\[{](?:[+-]\d?|\d)[\]}\[]|[+-]\d\]")
BROKEN = re.compile(r"\w ?! [a-z\d]|[a-z]- [a-z]")
"""A word or a line torn by an old mail program or a PDF; such texts are passed over."""


class Review(NamedTuple):
    """A row of ``reviews``; ``opinion`` is positive, negative, mixed or null, as people saw it."""

    review_id: str
    kind: str
    product: str
    title: str | None
    body: str
    opinion: str | None


class Abstract(NamedTuple):
    """A row of ``abstracts``; ``tldr`` is the summary in one sentence that a person wrote."""

    paper_id: str
    title: str
    abstract: str
    tldr: str


Row = TypeVar("Row", Review, Abstract, domains.Chat, domains.Note, domains.Headline, domains.Film, domains.Game)


def _sentence(line: str) -> tuple[str, list[str]]:
    """Part a line of Hu and Liu into its sentence and the opinion marks of its aspects.

    >>> _sentence("size[+2][u], price[-1]##small , but dear .")
    ('small , but dear .', ['[+2]', '[-1]'])
    """
    marks, found, text = line.partition("##")
    marks, text = (marks, text) if found else ("", line)
    marks += "".join(MARKS.findall(text))
    text = MARKS.sub(" ", text).replace("##", " ")
    return re.sub(r"^\s*#3?", "", text), SIGN.findall(marks)


def opinion_of(marks: Iterable[str]) -> str | None:
    """Name the one direction of all marks, ``mixed`` for both, None for no mark at all."""
    signs = {"negative" if "-" in mark else "positive" for mark in marks}
    return None if not signs else signs.pop() if len(signs) == 1 else "mixed"


def _reviews_of(document: str) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Yield (title, sentences with their marks) of every review of one product."""
    for review in TITLE.split(document)[1:]:
        title, _, text = review.partition("\n")
        yield title, [_sentence(line) for line in text.split("\n") if line.strip()]


def product_reviews(data_dir: Path) -> Iterator[Review]:
    """Yield every product review of two sentences or more, numbered in the archives' order."""
    numbers = count(1)
    for name, clean in (("product_reviews_1", detokenise), ("product_reviews_2", tidy)):
        for member, document in documents(data_dir, f"product_reviews/{name}.zip"):
            product = PRODUCTS.get(Path(member).stem)
            for title, parts in _reviews_of(document) if product else ():
                key, headline = f"P{next(numbers):05d}", clean(title) or None
                sentences = [text for text in (clean(text) for text, _ in parts) if text]
                body = " ".join(sentences)
                opinion = opinion_of(mark for _, marks in parts for mark in marks)
                if product and len(sentences) > 1 and not (clean is tidy and BROKEN.search(body)):
                    yield Review(key, "product", product, headline, body, opinion)


def film_reviews(data_dir: Path) -> Iterator[Review]:
    """Yield every whole film review."""
    for film in domains.films(data_dir):
        yield Review(film.review_id, "film", "film", None, film.body, film.opinion)


def film_sentences(data_dir: Path) -> Iterator[Review]:
    """Yield every sentence on films that the bundled adapter has not been trained on."""
    for number, (text, label) in enumerate(held_out_mr(data_dir), 1):
        body = detokenise(text)
        if body.isprintable():
            opinion = "positive" if label else "negative"
            yield Review(f"M{number:05d}", "film", "film", None, body, opinion)


def abstracts(data_dir: Path) -> Iterator[Abstract]:
    """Yield every abstract of five sentences or more; fragments of sentences do not count."""
    for line in read(data_dir, "scitldr/train.jsonl").decode("utf-8").splitlines():
        paper = json.loads(line)
        sentences = [tidy(text) for text in paper["source"]]
        body = " ".join(sentences)
        whole = sum(len(text.split()) >= SENTENCE_WORDS for text in sentences)
        if whole >= ABSTRACT_SENTENCES and not BROKEN.search(body):
            title, tldr = tidy(paper["title"]), tidy(paper["target"][0])
            yield Abstract(paper["paper_id"], title, body, tldr)


def _order(row: Row) -> str:
    """Seeded sort key of a row, from its first column."""
    return hashlib.sha256(f"{SEED}:{row[0]}".encode()).hexdigest()


def _draw(rows: Iterable[Row], size: int, *columns: str) -> list[Row]:
    """Take ``size`` rows in seeded order, no two with the same texts in ``columns``."""
    unlike = {tuple(getattr(row, column).casefold() for column in columns): row for row in rows}
    return sorted(unlike.values(), key=_order)[:size]


def _write(folder: Path, rows: Sequence[Row]) -> None:
    """Deal rows to the days like cards, in one file of one row group each; print their table."""
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(DAYS):
        path, dealt = folder / f"day-{day}.parquet", sorted(rows[day::DAYS], key=_order)
        columns = [pa.array(values, pa.string()) for values in zip(*dealt, strict=True)]
        table = pa.table(columns, names=rows[0]._fields)
        pq.write_table(table, path, compression="zstd", compression_level=19)
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        print(f"| {folder.name}/{path.name} | {len(dealt)} | {len(content)} | {sha256} |")


def build(data_dir: Path, out: Path) -> None:
    """Write the samples of all days below ``out``."""
    reviews = _draw(product_reviews(data_dir), PRODUCT_REVIEWS, "body")
    reviews.sort(key=lambda row: (row.product, row.opinion or ""))
    for source, size in ((film_reviews, FILM_REVIEWS), (film_sentences, FILM_SENTENCES)):
        rows = list(source(data_dir))
        for label in ("negative", "positive"):
            reviews += _draw((row for row in rows if row.opinion == label), size // 2, "body")
    _write(out / "reviews", reviews)
    _write(out / "abstracts", _draw(abstracts(data_dir), ABSTRACTS, "abstract"))
    _write(out / "chats", _draw(domains.chats(data_dir), domains.CHATS, "chat", "reply"))
    _write(out / "notes", _draw(domains.notes(data_dir), domains.NOTES, "dialogue"))
    _write(out / "headlines", _draw(domains.headlines(data_dir), domains.HEADLINES, "headline", "company"))
    _write(out / "games", _draw(domains.games(data_dir), domains.GAMES, "body"))
    films = list(domains.films(data_dir))
    drawn = [
        _draw((film for film in films if film.opinion == label), len(films), "body")
        for label in ("negative", "positive")
    ]
    shown, more = FILM_REVIEWS // 2, domains.FILMS // 2
    _write(out / "films", [film for part in drawn for film in part[shown : shown + more]])


def main() -> None:
    """Read the command line and build; end with exit code 2 where an archive is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        build(args.data, args.out)
    except WindrowError as error:
        show_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
