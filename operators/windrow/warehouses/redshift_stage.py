"""The bucket through which rows reach Redshift."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from windrow.errors import JobError, WarehouseError
from windrow.warehouses.redshift_session import Address

__all__ = ["staged"]


@contextmanager
def staged(address: Address, name: str, files: Iterator[Path]) -> Iterator[str]:
    """Put files into a folder of the stage one after another, each removed here when it is there; delete them at last.

    Gives the folder, ``s3://bucket/folder/``; empty if there were no files.

    Raises:
        JobError: The driver of S3 is not installed.
        WarehouseError: The bucket cannot be written.
    """
    store, folder = _store(address), f"{address.folder}{name}/"
    keys: list[str] = []
    try:
        for number, file in enumerate(files):
            keys.append(f"{folder}{number:06d}.parquet")
            _put(store, address, keys[-1], file)
            file.unlink()
        yield f"s3://{address.bucket}/{folder}" if keys else ""
    finally:
        for key in keys:
            with suppress(Exception):  # a rule of the bucket may delete what is left
                store.delete_object(Bucket=address.bucket, Key=key)


def _put(store: Any, address: Address, key: str, file: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        with file.open("rb") as stream:
            store.put_object(Bucket=address.bucket, Key=key, Body=stream)
    except (BotoCoreError, ClientError) as error:
        problem = f"The stage s3://{address.bucket}/{address.folder} cannot be written: {error}".rstrip(".")
        fix = "check the bucket, and that the environment's AWS credentials may put and delete objects there."
        raise WarehouseError(f"{problem}.", fix) from None


def _store(address: Address) -> Any:
    """Return a client of S3, with the credentials that the environment has."""
    try:
        import boto3
    except ImportError:
        raise JobError("The driver of S3 is not installed.", "pip install 'windrow[redshift]'.") from None
    return boto3.client("s3", region_name=address.region or None, endpoint_url=address.endpoint_url or None)
