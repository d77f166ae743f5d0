"""Reading the archives of the samples: checked against their SHA-256, and their texts put in order."""

import hashlib
import html
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from windrow.errors import SourceError

ARCHIVES = {
    "product_reviews/product_reviews_1.zip": "627bfb0bb7c87586246d99b4402c3d7e4fb77ac14559d8695c283bd6850615ac",
    "product_reviews/product_reviews_2.zip": "272b08fe130882e5867aa7ecc69a65616099183c4ccc10374a62c271801b0bc1",
    "movie_reviews/movie_reviews.zip": "a41211ae685019137410268134db6a1a14428c89b671eb83056151a878539008",
    "scitldr/train.jsonl": "b222771d387be585cfdf5ae957b36757138415a352e0a3e3b23f73f87c3b1119",
    "bridge_education/train.json": "870fa10d299711d315718d1995f234988582d7168fa9c054c267ededd89ba260",
    "mts_dialog/MTS-Dialog-TrainingSet.csv": "65a28681dd59fc159681ea026e44610f2af7bc64a0e7f892d763eb03d9f503dc",
    "sentfin/SEntFiN.csv": "570af7ba58f724f3fcc414dd5ba80da5b1a3b342134d76c6ebdf53a32c54a92f",
    "goemotions/train.tsv": "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
    "goemotions/dev.tsv": "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62",
    "goemotions/test.tsv": "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4",
    "goemotions/labels.txt": "45c3ef86782d2a4d7fedcd6d8c111aa0d0e94720689bd164fac94fefb4495a89",
    "sentfin/entity_list_comprehensive.csv": "6ace045edc54c90bc0695ee5a78afec9f7a5294844ccfd0c9e85a14aeea4916b",
}
OWNED = re.compile(r"@|http|www\.|copyright|\(c\)")
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


def read(data_dir: Path, name: str) -> bytes:
    """Return the bytes of an archive.

    Raises:
        SourceError: It is missing, or another file than the samples were built from.
    """
    fix = "fetch it from the repository and commit named in samples/SOURCES.md."
    try:
        content = (data_dir / name).read_bytes()
    except OSError as error:
        raise SourceError(f"{name} cannot be read in {data_dir}: {error.strerror}.", fix) from None
    if hashlib.sha256(content).hexdigest() != ARCHIVES[name]:
        raise SourceError(f"{name} is not the file the samples were built from.", fix)
    return content


def documents(data_dir: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (member name, text) of every document in a zip archive, sorted by name."""
    archive = zipfile.ZipFile(io.BytesIO(read(data_dir, name)))
    for member in sorted(archive.namelist()):
        if member.endswith(".txt") and "README" not in member:
            yield member, archive.read(member).decode("utf-8")


def tidy(text: str) -> str:
    """Undo character references, ligatures and runs of white space."""
    text = html.unescape(re.sub(r"&(#?\w+) ?;", r"&\1;", text))
    return " ".join(text.translate(LIGATURES).split())


def detokenise(text: str) -> str:
    """Join the tokens of one sentence that blanks set apart; its letters stay as they are.

    >>> print(detokenise("it does n't cost $ 7 . 50 ( or does it ? ) ."))
    it doesn't cost $7.50 (or does it?).
    """
    text = tidy(text)
    for pattern, replacement in DETOKENISE:
        text = pattern.sub(replacement, text)
    return text


def is_plain(text: str) -> bool:
    """Tell whether a text is printable ASCII and claims no owner."""
    return text.isascii() and text.isprintable() and not OWNED.search(text)
