"""Answers that must be JSON of a given shape: the schema checked, the answer found, and what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from windrow.errors import JobError

__all__ = ["InvalidAnswerError", "Shape", "canonical"]

_FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
_LONGEST = 240


class InvalidAnswerError(Exception):
    """An answer is not the JSON that was asked for."""


class Shape:
    """A JSON schema that answers must follow.

    Args:
        schema: The schema, the path of a JSON file that holds it, or a pydantic model class.

    Raises:
        JobError: The file is missing or broken, or the schema is none, or refers to another file.
    """

    def __init__(self, schema: Any) -> None:
        self.schema = _plain(_read(schema))
        kind = validator_for(self.schema, default=Draft202012Validator)
        try:
            kind.check_schema(self.schema)
            self._check_references()
        except SchemaError as error:
            raise JobError(f"task.schema is no valid JSON schema: {_line(error.message)}.", "correct it.") from None
        self._validator = kind(self.schema, registry=Registry())

    def text(self) -> str:
        """Return the schema as JSON on one line, as the model reads it."""
        return canonical(self.schema)

    def read(self, answer: str) -> str:
        """Return the canonical JSON of an answer.

        The JSON is the whole answer, the inside of a code fence, or the first object or list in it.

        Raises:
            InvalidAnswerError: There is none, or it does not follow the schema; the message tells the model why.
        """
        found = _found(answer)
        if found is None:
            raise InvalidAnswerError("it holds no JSON")
        try:
            wrong = best_match(self._validator.iter_errors(found[0]))
            text = canonical(found[0])
        except (ValueError, RecursionError):
            raise InvalidAnswerError("a number in it is out of range, or it is nested too deeply") from None
        if wrong is not None:
            place = "".join(f"[{step!r}]" for step in wrong.absolute_path)
            raise InvalidAnswerError(f"{_line(wrong.message)}{f' at {place}' if place else ''}")
        return text

    def _check_references(self) -> None:
        """Resolve every reference, so that none is first missed while answers are read."""
        whole = Resource.from_contents(self.schema, default_specification=DRAFT202012)
        resolver = Registry().with_resource("", whole).resolver()
        for reference in _references(self.schema):
            if not reference.startswith("#"):
                raise JobError(
                    f"task.schema refers to {reference!r}, which is outside it.", "put it under $defs of the schema."
                )
            try:
                resolver.lookup(reference)
            except Unresolvable:
                raise JobError(f"task.schema refers to {reference!r}, which it lacks.", "add it under $defs.") from None


def canonical(value: Any) -> str:
    """Return a value as JSON text: keys sorted, no blanks.

    Raises:
        ValueError: A number is infinite.

    >>> canonical({"b": [1, 2], "a": "ä"})
    '{"a":"ä","b":[1,2]}'
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    is_text = text.isascii() or text == text.encode("utf-8", "replace").decode()
    return text if is_text else json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read(schema: Any) -> Any:
    if hasattr(schema, "model_json_schema"):
        return schema.model_json_schema()
    if not isinstance(schema, str):
        return schema
    try:
        found = json.loads(Path(schema).read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(
            f"task.schema: {schema!r} cannot be read: {error.strerror}.",
            "name a JSON file, or write the schema itself.",
        ) from None
    except (ValueError, RecursionError):
        raise JobError(f"task.schema: {schema!r} is not valid JSON.", "correct the file.") from None
    if not isinstance(found, dict):
        raise JobError(f"task.schema: {schema!r} holds no JSON object.", "write a JSON schema into it.")
    return found


def _plain(schema: Any) -> Any:
    """Return the schema as JSON would give it back; YAML has dates and numbers as keys, JSON has none."""
    try:
        return json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise JobError(f"task.schema is no JSON: {_line(str(error))}.", "put texts into quotes.") from None


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from _references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner)


def _found(answer: str) -> tuple[Any] | None:
    """Return the JSON value of an answer, in a tuple since it may be null."""
    for text in (answer, *_FENCE.findall(answer)):
        try:
            return (json.loads(text, parse_constant=_refused),)
        except (ValueError, RecursionError):
            continue
    decoder = json.JSONDecoder(parse_constant=_refused)
    for start in re.finditer(r"[{\[]", answer):
        try:
            return (decoder.raw_decode(answer, start.start())[0],)
        except (ValueError, RecursionError):
            continue
    return None


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _line(message: str) -> str:
    """Return a message on one line; the middle of a long one is left out, since its end says what is wrong."""
    words = " ".join(message.split()).rstrip(".")
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST // 3]} … {words[-_LONGEST // 2 :]}"
