"""Write docker/.env: secrets for the compose file, drawn here and nowhere else. An existing file is kept.

python3 docker/make_env.py
"""

import base64
import os
import secrets
import sys
from pathlib import Path

SECRETS = {
    "POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(24),
    "REDIS_PASSWORD": lambda: secrets.token_urlsafe(24),
    "S3_ACCESS_KEY": lambda: secrets.token_hex(10),
    "S3_SECRET_KEY": lambda: secrets.token_hex(20),
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(64),
    "AIRFLOW_SECRET_KEY": lambda: secrets.token_hex(16),
}


def main(file: Path) -> int:
    """Write the file; only this user may read it."""
    try:
        target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{file} is there already, and is kept.\nFix: remove it for new secrets (and the volumes with it).")
        return 2
    with os.fdopen(target, "w", encoding="utf-8") as stream:
        stream.writelines(f"{name}={draw()}\n" for name, draw in SECRETS.items())
    print(f"Secrets are in {file}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent / ".env"))
