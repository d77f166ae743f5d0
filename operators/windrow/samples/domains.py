"""Samples of four domains for the example Dags: tutoring, doctors' notes, finance headlines, films and games.

Made by `windrow.samples.build`, which checks the archives; see ``SOURCES.md`` for where they come from.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from windrow.samples.reading import detokenise, documents, is_plain, read, tidy

FILM_WORDS = range(150, 601)
CHATS, NOTES, HEADLINES, FILMS, GAMES = 336, 210, 700, 84, 140
"""Rows of each sample, over all days."""

_VIDEO_GAMES = re.compile(
    r"\b(video ?games?|gameplay|multiplayer|single[- ]player|rpgs?|mmos?|dlcs?|pvp|loot ?box(es)?|battle royale|gamers?"
    r"|game devs?|ps4|playstation|nintendo|xbox|fortnite|skyrim|overwatch|minecraft|warframe|zelda)\b",
    re.IGNORECASE,
)
_RUDE = re.compile(
    r"fuck|shit|bitch|cunt|penis|retard|slut|whore|porn|nazi|suicid|n word|\[RELIGION\]"
    r"|\b(dick|fag|jerk|rap(e|ing)|sex)|\b(bad|dumb|jack)?ass(hole)?s?\b",
    re.IGNORECASE,
)
_FEELINGS = {
    "positive": "admiration amusement approval caring desire excitement gratitude joy love optimism pride relief",
    "negative": "anger annoyance disappointment disapproval disgust embarrassment fear grief nervousness remorse "
    "sadness",
}
"""How GoEmotions' authors group emotions; the others, and none, are of neither kind."""
_DECISION = re.compile(r"['\"]([^:]+?)['\"]: '(positive|negative|neutral)'")


class Chat(NamedTuple):
    """A row of ``chats``: a tutor's answer to a mistake; ``error`` and ``strategy`` are what a teacher called them."""

    chat_id: str
    topic: str
    chat: str
    reply: str
    error: str
    strategy: str


class Note(NamedTuple):
    """A row of ``notes``: a conversation of doctor and patient, and the note that was made of it."""

    visit_id: str
    section: str
    dialogue: str
    note: str


class Headline(NamedTuple):
    """A row of ``headlines``: one company in one headline; ``opinion`` is that of people on this company."""

    headline_id: str
    company: str
    headline: str
    opinion: str


class Film(NamedTuple):
    """A row of ``films``: a whole review; ``opinion`` is the folder it lies in."""

    review_id: str
    body: str
    opinion: str


class Game(NamedTuple):
    """A row of ``games``: a comment on a video game; ``opinion`` is positive, negative, mixed or null."""

    comment_id: str
    body: str
    opinion: str | None


def chats(data_dir: Path) -> Iterator[Chat]:
    """Yield every chat whose last turns and reply have words."""
    for chat in json.loads(read(data_dir, "bridge_education/train.json")):
        turns = "\n".join(f"{turn['user']}: {tidy(turn['text'])}" for turn in chat["c_h"])
        reply = " ".join(tidy(turn["text"]) for turn in chat["c_r"] if turn["user"] == "tutor")
        if turns.isascii() and reply.isascii() and len(reply.split()) > 1:
            yield Chat(chat["c_id"], tidy(chat["lesson_topic"]), turns, reply, chat["e"], chat["z_what"])


def notes(data_dir: Path) -> Iterator[Note]:
    """Yield every conversation of four turns or more."""
    text = read(data_dir, "mts_dialog/MTS-Dialog-TrainingSet.csv").decode("utf-8-sig")
    for row in csv.DictReader(io.StringIO(text)):
        turns = [tidy(line) for line in row["dialogue"].splitlines() if line.strip()]
        if len(turns) > 3:
            yield Note(f"V{int(row['ID']):05d}", row["section_header"], "\n".join(turns), tidy(row["section_text"]))


def headlines(data_dir: Path) -> Iterator[Headline]:
    """Yield every company of every headline, as the authors' list of companies knows them."""
    listed = csv.DictReader(io.StringIO(read(data_dir, "sentfin/entity_list_comprehensive.csv").decode("utf-8-sig")))
    companies = {name.strip() for row in listed for name in row["Entity"].split(",")}
    text = read(data_dir, "sentfin/SEntFiN.csv").decode("utf-8-sig")
    for row in csv.DictReader(io.StringIO(text)):
        for company, opinion in _DECISION.findall(row["Decisions"]):
            if company in companies:
                yield Headline(f"H{int(row['S No.']):05d}", company, tidy(row["Title"]), opinion)


def films(data_dir: Path) -> Iterator[Film]:
    """Yield every whole film review of the wanted length that is plain and claims no owner."""
    for number, (member, text) in enumerate(documents(data_dir, "movie_reviews/movie_reviews.zip"), 1):
        body = " ".join(detokenise(line) for line in text.split("\n") if line.strip())
        if is_plain(body) and len(body.split()) in FILM_WORDS:
            yield Film(f"F{number:05d}", body, "positive" if "/pos/" in member else "negative")


def games(data_dir: Path) -> Iterator[Game]:
    """Yield every comment of four words or more that speaks of video games, by its words, and is not rude."""
    emotions = read(data_dir, "goemotions/labels.txt").decode("utf-8").split()
    for part in ("train", "dev", "test"):
        for line in read(data_dir, f"goemotions/{part}.tsv").decode("utf-8").splitlines():
            text, numbers, comment_id = line.split("\t")
            body = tidy(text)
            told = {emotions[int(number)] for number in numbers.split(",")}
            kinds = [kind for kind, group in _FEELINGS.items() if told & set(group.split())]
            if _VIDEO_GAMES.search(body) and not _RUDE.search(body) and is_plain(body) and len(body.split()) > 3:
                yield Game(comment_id, body, None if not kinds else kinds[0] if len(kinds) == 1 else "mixed")
