"""The part of etcd's API (v3) that is used here, as protobuf messages made from one table.

Owns names and numbers of fields. The messages live in a descriptor pool of their own, under a file name that no other
library has, so that they never collide with another etcd client's. Fields that are not listed are skipped by protobuf.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILE = "romana/etcd/rpc.proto"
_PACKAGE = "romana.etcd"
_TABLE = """
KeyValue:            key=1 bytes, mod_revision=3 int64, value=5 bytes, lease=6 int64
Event:               type=1 int64, kv=2 KeyValue
Header:              revision=3 int64
RangeRequest:        key=1 bytes, range_end=2 bytes, limit=3 int64, revision=4 int64, keys_only=8 bool, count_only=9 bool
RangeResponse:       header=1 Header, kvs=2 KeyValue*, more=3 bool, count=4 int64
PutRequest:          key=1 bytes, value=2 bytes, lease=3 int64
DeleteRangeRequest:  key=1 bytes, range_end=2 bytes
DeleteRangeResponse: header=1 Header, deleted=2 int64
RequestOp:           request_range=1 RangeRequest, request_put=2 PutRequest, request_delete_range=3 DeleteRangeRequest, request_txn=4 TxnRequest
ResponseOp:          response_range=1 RangeResponse, response_delete_range=3 DeleteRangeResponse, response_txn=4 TxnResponse
Compare:             result=1 int64, target=2 int64, key=3 bytes, mod_revision=6 int64
TxnRequest:          compare=1 Compare*, success=2 RequestOp*, failure=3 RequestOp*
TxnResponse:         header=1 Header, succeeded=2 bool, responses=3 ResponseOp*
WatchCreateRequest:  key=1 bytes, range_end=2 bytes, start_revision=3 int64, progress_notify=4 bool
WatchRequest:        create_request=1 WatchCreateRequest
WatchResponse:       header=1 Header, created=3 bool, canceled=4 bool, compact_revision=5 int64, cancel_reason=6 string, events=11 Event*
LeaseGrantRequest:   TTL=1 int64
LeaseGrantResponse:  header=1 Header, ID=2 int64, TTL=3 int64
LeaseRevokeRequest:  ID=1 int64
LeaseRevokeResponse: header=1 Header
LeaseKeepAliveRequest:  ID=1 int64
LeaseKeepAliveResponse: header=1 Header, ID=2 int64, TTL=3 int64
"""  # noqa: E501 - a table
_SCALARS = {
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}
PUT, DELETE = 0, 1
"""Types of an event."""
MOD_REVISION = 2
"""The target of a comparison; its result 0 is "equal"."""


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    for line in _TABLE.strip().splitlines():
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            head, kind = field.split()
            field_name, _, number = head.partition("=")
            added = message.field.add(name=field_name, number=int(number))
            repeated = kind.endswith("*")
            added.label = added.LABEL_REPEATED if repeated else added.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindFileByName(_FILE)
    return {name: message_factory.GetMessageClass(one) for name, one in found.message_types_by_name.items()}


_all = _messages()
RangeRequest: Any = _all["RangeRequest"]
RangeResponse: Any = _all["RangeResponse"]
PutRequest: Any = _all["PutRequest"]
DeleteRangeRequest: Any = _all["DeleteRangeRequest"]
RequestOp: Any = _all["RequestOp"]
Compare: Any = _all["Compare"]
TxnRequest: Any = _all["TxnRequest"]
TxnResponse: Any = _all["TxnResponse"]
WatchRequest: Any = _all["WatchRequest"]
WatchCreateRequest: Any = _all["WatchCreateRequest"]
WatchResponse: Any = _all["WatchResponse"]
LeaseGrantRequest: Any = _all["LeaseGrantRequest"]
LeaseGrantResponse: Any = _all["LeaseGrantResponse"]
LeaseRevokeRequest: Any = _all["LeaseRevokeRequest"]
LeaseRevokeResponse: Any = _all["LeaseRevokeResponse"]
LeaseKeepAliveRequest: Any = _all["LeaseKeepAliveRequest"]
LeaseKeepAliveResponse: Any = _all["LeaseKeepAliveResponse"]


def range_of(key: bytes, end: bytes = b"", **more: int | bool) -> Any:
    """An operation that reads a key, or all from it up to `end`."""
    return RequestOp(request_range=RangeRequest(key=key, range_end=end, **more))


def put(key: bytes, value: bytes, lease: int = 0) -> Any:
    """An operation that writes a key."""
    return RequestOp(request_put=PutRequest(key=key, value=value, lease=lease))


def delete(key: bytes, end: bytes = b"") -> Any:
    """An operation that deletes a key, or all from it up to `end`."""
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=end))


def inner(request: Any) -> Any:
    """A transaction as an operation of another one."""
    return RequestOp(request_txn=request)


def unchanged(key: bytes, revision: int) -> Any:
    """A comparison: the key was last written at this revision; 0: it is absent."""
    return Compare(target=MOD_REVISION, key=key, mod_revision=revision)
