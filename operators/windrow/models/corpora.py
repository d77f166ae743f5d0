"""The corpora that the bundled sentiment adapter learns from and is held against, each checked by its SHA-256."""

from __future__ import annotations

import ast
import csv
import hashlib
import html
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from windrow.errors import SourceError

SEED, HELD_OUT = 20051, 533  # the latter in sentences per label
EMOTIONS = ({2, 3, 9, 10, 11, 12, 14, 16, 19, 24, 25}, {0, 4, 5, 13, 15, 17, 18, 20, 21, 23})  # by label
AUXILIARY = r"\b(i|my|me|it|its|you|your|is|are|was|were|has|have|had|do|does|did|can|will|would)\b"
SENTENCE = re.compile(AUXILIARY + r"|'(s|m|ve|re|ll|d)\b|n't")
SHA256 = {
    "sentence_polarity.zip": "6e1ed4405b65c7eabf1d199a7f7c437091ac21da0ea7467b410a74062574566b",
    "pros_cons.zip": "b5bca541ba5b2e614cde2213ddcca027416f6997067c90e45c173bf55c6fade8",
    "SEntFiN.csv": "570af7ba58f724f3fcc414dd5ba80da5b1a3b342134d76c6ebdf53a32c54a92f",
    "train.tsv": "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
    "product_reviews_1.zip": "627bfb0bb7c87586246d99b4402c3d7e4fb77ac14559d8695c283bd6850615ac",
    "product_reviews_2.zip": "272b08fe130882e5867aa7ecc69a65616099183c4ccc10374a62c271801b0bc1",
    "amazon_cells_labelled.txt": "47003fc0a0d4840b00e96e715b6189bad09e7443a3da41c4cbe12ffc79f86ae3",
    "imdb_labelled.txt": "aef2e49e3da25714d61175e3a6e68eeef74a20a2f914318dc3be9947ea86512d",
    "yelp_labelled.txt": "c76468b7b5c6e56a0804d728345c5f84aa2142ddb214420f61cc9cfd4c00d2ea",
}
Example = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an adapter learns from beside the headlines, and for how long.

    ``phrases`` gives (style, most per label): sentences are True, noun phrases False, None takes either.
    ``movies`` is how often an epoch shows each MR sentence.
    """

    seed: int
    epochs: int
    phrases: tuple[tuple[bool | None, int], ...]
    comments: int
    movies: int


def _found(folder: Path, name: str) -> bytes | None:
    """Return the bytes of the file ``folder/*/name`` that has the digest expected of it; None if there is none."""
    for path in sorted(folder.glob(f"*/{name}")):
        if hashlib.sha256(content := path.read_bytes()).hexdigest() == SHA256[name]:
            return content
    return None


def _lacking(folder: Path, names: list[str]) -> SourceError:
    digests = "".join(f"\n{SHA256[name]}  {name}" for name in names)
    problem = f"Not in {folder}/* with the expected SHA-256: {', '.join(names)}."
    return SourceError(problem, f"put into a folder there the files of these digests:{digests}")


def _verified(folder: Path, name: str) -> bytes:
    if (content := _found(folder, name)) is None:
        raise _lacking(folder, [name])
    return content


def check_archives(data_dir: Path) -> None:
    """Read every archive that training or its scores need.

    Raises:
        SourceError: Some are missing or altered; it names all of them.
    """
    if missing := [name for name in SHA256 if _found(data_dir, name) is None]:
        raise _lacking(data_dir, missing)


def _documents(data_dir: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (member name, text) of every document in a verified zip archive, sorted by name."""
    archive = zipfile.ZipFile(io.BytesIO(_verified(data_dir, name)))
    for member in sorted(archive.namelist()):
        if not member.endswith(("/", "README", "README.txt")):
            yield member, archive.read(member).decode("utf-8")


def _order(text: str) -> str:
    """Return a seeded sort key that no random generator can change; equal texts stay together."""
    return hashlib.sha256(f"{SEED}:{text.casefold()}".encode()).hexdigest()


def _movie_sentences(data_dir: Path) -> Iterator[list[Example]]:
    """Yield the negative, then the positive MR sentences, each in seeded order."""
    for member, text in _documents(data_dir, "sentence_polarity.zip"):
        lines = sorted(filter(None, map(str.strip, text.split("\n"))), key=_order)
        yield [(line, int(member.endswith(".pos"))) for line in lines]


def held_out_mr(data_dir: Path | str) -> list[Example]:
    """Return the 1,066 MR sentences the adapter never trained on; SourceError if the archive is missing or altered."""
    return [row for side in _movie_sentences(Path(data_dir)) for row in side[:HELD_OUT]]


def _style(phrase: str) -> bool | None:
    """Tell a sentence (True) from a noun phrase (False); a con that says there is none is neither."""
    return None if phrase.startswith(("none", "nothing")) else bool(SENTENCE.search(phrase))


def _pros_and_cons(data_dir: Path, recipe: Recipe) -> Iterator[Example]:
    """Yield as many pros as cons of every style asked for: as they come, sentences are mostly cons."""
    sides: list[dict[str, str]] = []
    for _, text in _documents(data_dir, "pros_cons.zip"):
        found = re.findall(r"<(?:Pros|Cons)>(.*?)</(?:Pros|Cons)>", text)
        phrases = [html.unescape(html.unescape(phrase)).strip() for phrase in found]
        sides.append({p.casefold(): p for p in phrases if len(p.split()) > 2})
    alone = [sorted(sides[i].keys() - sides[1 - i].keys(), key=_order) for i in range(2)]
    for style, most in recipe.phrases:
        fits = [[key for key in keys if style is None or _style(key) is style] for keys in alone]
        for i in range(2):
            yield from ((sides[i][key], i) for key in fits[i][: min(most, *map(len, fits))])


def _headlines(data_dir: Path) -> Iterator[Example]:
    """Yield the SEntFiN headlines whose every entity is positive, or every one negative."""
    for row in csv.DictReader(io.StringIO(_verified(data_dir, "SEntFiN.csv").decode("utf-8"))):
        try:
            sentiments = set(ast.literal_eval(row["Decisions"]).values())
        except (SyntaxError, ValueError):
            continue
        if sentiments in ({"positive"}, {"negative"}):
            yield row["Title"].strip(), int(sentiments == {"positive"})


def _comments(data_dir: Path, recipe: Recipe) -> Iterator[Example]:
    """Yield GoEmotions comments whose every emotion is pleasant, or every one unpleasant."""
    lines = _verified(data_dir, "train.tsv").decode("utf-8").split("\n")
    rows = sorted((line.split("\t") for line in lines if line), key=lambda row: _order(row[0]))
    for label in (1, 0):
        fits = (text for text, ids, _ in rows if {*map(int, ids.split(","))} <= EMOTIONS[label])
        yield from ((text, label) for text in islice(fits, recipe.comments))


def training_rows(data_dir: Path, recipe: Recipe) -> list[Example]:
    """Return everything an adapter learns from; no text of the held-out split is among it."""
    held_out = {text.casefold() for text, _ in held_out_mr(data_dir)}
    movies = [row for side in _movie_sentences(data_dir) for row in side]
    others = chain(_pros_and_cons(data_dir, recipe), _headlines(data_dir), _comments(data_dir, recipe))
    rows = chain(movies, others, movies * (recipe.movies - 1))
    return [row for row in rows if row[0].casefold() not in held_out]


def product_sentences(data_dir: Path, name: str) -> Iterator[Example]:
    """Yield sentences of Hu and Liu whose marks (``size[+2][u]##text``) all parse, and all point one way."""
    for _, document in _documents(data_dir, name):
        for line in document.split("\n"):
            marks, _, text = line.partition("##")
            signs = set(re.findall(r"\[([+-])\d?\]", marks))
            rest = re.sub(r"\[(?:[+-]\d?|[a-z]{1,2})\]", "", marks)
            if text.strip() and len(signs) == 1 and not re.search(r"[][{}]", rest):
                yield html.unescape(text).strip(), int(signs == {"+"})


def labelled_sentences(data_dir: Path, name: str) -> Iterator[Example]:
    """Yield the sentences of one source of Kotzias et al. (2015), ``text TAB label``."""
    for line in _verified(data_dir, f"{name}_labelled.txt").decode("utf-8").split("\n"):
        text, _, label = line.rpartition("\t")
        if text.strip():
            yield text.strip(), int(label)
