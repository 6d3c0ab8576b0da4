"""What other libraries need to reach the S3 that vidmill reaches: endpoint, region and credentials, found where botocore finds them.

Knows the environment, profiles and roles; makes no request of its own to S3.
"""

import os
from dataclasses import dataclass, field

from botocore.session import Session


@dataclass(frozen=True, slots=True)
class S3Access:
    """A way to S3; secrets stay out of its repr."""

    endpoint: str | None  # None: AWS itself
    region: str
    key_id: str | None
    secret: str | None = field(repr=False)
    token: str | None = field(repr=False)


def s3_access() -> S3Access:
    """As this process would reach S3 now; credentials that expire are good for the next minutes."""
    session = Session()
    credentials = session.get_credentials()
    frozen = credentials.get_frozen_credentials() if credentials else None
    return S3Access(
        endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        region=session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1",
        key_id=frozen.access_key if frozen else None,
        secret=frozen.secret_key if frozen else None,
        token=frozen.token if frozen else None,
    )
