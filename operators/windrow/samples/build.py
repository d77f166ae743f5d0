"""Build the sample reviews and abstracts that ship with the package, byte for byte.

    python -m windrow.samples.build --data DIR --out DIR

``--data`` names the folder of the archives listed in ``SOURCES.md``; every one is checked against
its SHA-256. Writes ``reviews/day-N.parquet`` and ``abstracts/day-N.parquet`` for N from 0 to 6 and
prints their table. Rows are put in order by a seeded hash of their key, never by a generator, so
equal archives give equal rows on any machine (and equal bytes with the same pyarrow).
"""

import argparse
import hashlib
import html
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from windrow.models.corpora import held_out_mr

SEED = 2004
DAYS = 7
PRODUCT_REVIEWS = 560
FILM_REVIEWS, FILM_REVIEW_WORDS = 60, range(150, 601)
FILM_SENTENCES = 210
ABSTRACTS, ABSTRACT_SENTENCES, SENTENCE_WORDS = 210, 5, 4
ARCHIVES = {
    "product_reviews/product_reviews_1.zip": ("627bfb0bb7c87586246d99b4402c3d7e4fb77ac14559d8695c283bd6850615ac"),
    "product_reviews/product_reviews_2.zip": ("272b08fe130882e5867aa7ecc69a65616099183c4ccc10374a62c271801b0bc1"),
    "movie_reviews/movie_reviews.zip": ("a41211ae685019137410268134db6a1a14428c89b671eb83056151a878539008"),
    "scitldr/train.jsonl": "b222771d387be585cfdf5ae957b36757138415a352e0a3e3b23f73f87c3b1119",
}
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
OWNED = re.compile(r"@|http|www\.|copyright|\(c\)")
BROKEN = re.compile(r"\w ?! [a-z\d]|[a-z]- [a-z]")
"""A word or a line torn by an old mail program or a PDF; such texts are passed over."""
LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl"})
DETOKENISE = [
    (re.compile(r"^\. (?=[^. ])"), ""),
    (re.compile(r"(?<=\d) ([.:]) (?=\d)"), r"\1"),
    (re.compile(r"(?<=\d) , (?=\d{3}\b)"), ","),
    (re.compile(r"\b([a-z]) \. (?=[a-z] \.)"), r"\1."),
    (re.compile(r"\.(?: ?\.){2,}"), "..."),
    (re.compile(r'" ?([^"]+?) ?"'), r'"\1"'),
    (re.compile(r"\s+(n't\b|'(?:s|t|re|ve|ll|m|d)\b|[.,;:!?%)\]])"), r"\1"),
    (re.compile(r"([(\[]|[$#](?= \d)) "), r"\1"),
    (re.compile(r"\* (\w+) \*"), r"*\1*"),
    (re.compile(r"(?<= )' ([^']{1,30}?) '(?= |$)"), r"'\1'"),
]


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


Row = TypeVar("Row", Review, Abstract)


def _read(data_dir: Path, name: str) -> bytes:
    content = (data_dir / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != ARCHIVES[name]:
        raise SystemExit(
            f"{name} is not the file the samples were built from.\n"
            "Fix: fetch it from the repository and commit named in samples/SOURCES.md."
        )
    return content


def _documents(data_dir: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (member name, text) of every document in a zip archive, sorted by name."""
    archive = zipfile.ZipFile(io.BytesIO(_read(data_dir, name)))
    for member in sorted(archive.namelist()):
        if member.endswith(".txt") and "README" not in member:
            yield member, archive.read(member).decode("utf-8")


def _tidy(text: str) -> str:
    """Undo character references, ligatures and runs of white space."""
    text = html.unescape(re.sub(r"&(#?\w+) ?;", r"&\1;", text))
    return " ".join(text.translate(LIGATURES).split())


def detokenise(text: str) -> str:
    """Join the tokens of one sentence that blanks set apart; its letters stay as they are.

    >>> print(detokenise("it does n't cost $ 7 . 50 ( or does it ? ) ."))
    it doesn't cost $7.50 (or does it?).
    """
    text = _tidy(text)
    for pattern, replacement in DETOKENISE:
        text = pattern.sub(replacement, text)
    return text


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
    for name, clean in (("product_reviews_1", detokenise), ("product_reviews_2", _tidy)):
        for member, document in _documents(data_dir, f"product_reviews/{name}.zip"):
            product = PRODUCTS.get(Path(member).stem)
            for title, parts in _reviews_of(document) if product else ():
                key, headline = f"P{next(numbers):05d}", clean(title) or None
                sentences = [text for text in (clean(text) for text, _ in parts) if text]
                body = " ".join(sentences)
                opinion = opinion_of(mark for _, marks in parts for mark in marks)
                if product and len(sentences) > 1 and not (clean is _tidy and BROKEN.search(body)):
                    yield Review(key, "product", product, headline, body, opinion)


def film_reviews(data_dir: Path) -> Iterator[Review]:
    """Yield every whole film review of the wanted length that is plain and claims no owner."""
    archive = _documents(data_dir, "movie_reviews/movie_reviews.zip")
    for number, (member, text) in enumerate(archive, 1):
        body = " ".join(detokenise(line) for line in text.split("\n") if line.strip())
        plain = body.isascii() and body.isprintable() and not OWNED.search(body)
        if plain and len(body.split()) in FILM_REVIEW_WORDS:
            opinion = "positive" if "/pos/" in member else "negative"
            yield Review(f"F{number:05d}", "film", "film", None, body, opinion)


def film_sentences(data_dir: Path) -> Iterator[Review]:
    """Yield every sentence on films that the bundled adapter has not been trained on."""
    for number, (text, label) in enumerate(held_out_mr(data_dir), 1):
        body = detokenise(text)
        if body.isprintable():
            opinion = "positive" if label else "negative"
            yield Review(f"M{number:05d}", "film", "film", None, body, opinion)


def abstracts(data_dir: Path) -> Iterator[Abstract]:
    """Yield every abstract of five sentences or more; fragments of sentences do not count."""
    for line in _read(data_dir, "scitldr/train.jsonl").decode("utf-8").splitlines():
        paper = json.loads(line)
        sentences = [_tidy(text) for text in paper["source"]]
        body = " ".join(sentences)
        whole = sum(len(text.split()) >= SENTENCE_WORDS for text in sentences)
        if whole >= ABSTRACT_SENTENCES and not BROKEN.search(body):
            title, tldr = _tidy(paper["title"]), _tidy(paper["target"][0])
            yield Abstract(paper["paper_id"], title, body, tldr)


def _order(row: Row) -> str:
    """Seeded sort key of a row, from its first column."""
    return hashlib.sha256(f"{SEED}:{row[0]}".encode()).hexdigest()


def _draw(rows: Iterable[Row], size: int, column: str) -> list[Row]:
    """Take ``size`` rows in seeded order, no two with the same text in ``column``."""
    unlike = {getattr(row, column).casefold(): row for row in rows}
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
    """Write the sample reviews and abstracts of all days below ``out``."""
    reviews = _draw(product_reviews(data_dir), PRODUCT_REVIEWS, "body")
    reviews.sort(key=lambda row: (row.product, row.opinion or ""))
    for source, size in ((film_reviews, FILM_REVIEWS), (film_sentences, FILM_SENTENCES)):
        rows = list(source(data_dir))
        for label in ("negative", "positive"):
            reviews += _draw((row for row in rows if row.opinion == label), size // 2, "body")
    _write(out / "reviews", reviews)
    _write(out / "abstracts", _draw(abstracts(data_dir), ABSTRACTS, "abstract"))


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    build(args.data, args.out)


if __name__ == "__main__":
    main()
