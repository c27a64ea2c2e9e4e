"""REELSHEET_S3_EXTRA_ARGS: what is taken, and what is an error before anything is spent."""

import json

import pytest
from botocore.session import get_session

from reelsheet import s3_extra_args, settings
from reelsheet.errors import ConfigurationError
from reelsheet.s3_extra_args import parse
from reelsheet.storage.destination import open_destination


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/clips", "BucketKeyEnabled": True},
        {"ACL": "bucket-owner-full-control", "ExpectedBucketOwner": "123456789012"},
        {"StorageClass": "GLACIER_IR", "Tagging": "team=video", "RequestPayer": "requester"},
        {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": "2030-01-01T00:00:00Z"},
        {"CacheControl": "max-age=60", "Expires": "2030-01-01"},
    ],
)
def test_arguments_of_put_object_are_taken(given):
    assert parse(json.dumps(given)) == given


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ServerSideEncryption=aws:kms", "must be a JSON object like"),
        ("{'ACL': 'private'}", "must be a JSON object"),
        ('["ACL"]', "must be a JSON object"),
        ("NaN", "must be a JSON object"),
        ('"ACL"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"Key": "x"}', "must not hold Key, which reelsheet sets itself"),
        ('{"Metadata": {"a": "b"}}', "must not hold Metadata"),
        ('{"ContentMD5": "x"}', "must not hold ContentMD5"),
        ('{"ChecksumCRC64NVME": "x"}', "must not hold ChecksumCRC64NVME"),
        ('{"IfNoneMatch": "*"}', "must not hold IfNoneMatch"),
        ('{"SSECustomerAlgorithm": "AES256"}', "under a key of your own"),
        ('{"SSECustomerKey": "x"}', "under a key of your own"),
        ('{"acl": "private"}', "'acl', which is not one of: ACL"),
        ('{"ServerSideEncription": "AES256"}', "is not one of"),
        ('{"a":' * 5000, "must be a JSON object"),
        ('{"ACL": 1}', "the value of ACL must be text"),
        ('{"ACL": ""}', "the value of ACL must be text"),
        ('{"ACL": null}', "the value of ACL must be text"),
        ('{"Tagging": {"team": "video"}}', "the value of Tagging must be text"),
        ('{"ExpectedBucketOwner": 123456789012}', "must be text in quotes"),
        ('{"BucketKeyEnabled": "true"}', "must be true or false"),
        ('{"ObjectLockRetainUntilDate": "soon"}', "must be a time like"),
        ('{"ObjectLockEventHoldDurationDays": true}', "must be a whole number"),
    ],
)
def test_anything_else_is_an_error_of_the_settings(text, words, monkeypatch):
    monkeypatch.setenv(s3_extra_args.NAME, text)
    with pytest.raises(ConfigurationError, match="REELSHEET_S3_EXTRA_ARGS") as caught:
        settings.load()
    assert words in str(caught.value)
    with pytest.raises(ConfigurationError, match="REELSHEET_S3_EXTRA_ARGS"):
        open_destination("s3://bucket/spring")


def test_every_argument_of_boto3_s_put_object_is_known():
    known = s3_extra_args._TEXTS | s3_extra_args._TIMES | s3_extra_args._FLAGS | s3_extra_args._NUMBERS
    members = get_session().get_service_model("s3").operation_model("PutObject").input_shape.members
    others = {name for name in members if not name.startswith(("Checksum", "SSECustomer"))}
    assert others == (known | s3_extra_args._OURS) - {"ChecksumAlgorithm"}
