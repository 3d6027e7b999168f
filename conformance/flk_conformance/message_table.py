"""What each message must be; written from `protocol.schema.json` by `write_table`."""

from __future__ import annotations

from typing import Any, Final

# fmt: off
RULES: Final[dict[str, dict[str, Any]]] = {
    "request": {
        "anyOf": [{
            "$ref": "hello",
        }, {
            "$ref": "run",
        }, {
            "$ref": "bye",
        }],
    },
    "reply": {
        "anyOf": [{
            "$ref": "greeting",
        }, {
            "$ref": "answer",
        }],
    },
    "hello": {
        "$comment": "tp.9",
        "type": "object",
        "required": ["cmd", "protocol", "vectors"],
        "additionalProperties": False,
        "properties": {
            "cmd": {
                "const": "hello",
                "$comment": "tp.9",
            },
            "protocol": {
                "type": "integer",
                "minimum": 1,
                "$comment": "tp.9",
            },
            "vectors": {
                "type": "string",
                "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$",
                "$comment": "tp.9",
            },
        },
    },
    "run": {
        "$comment": "tp.16",
        "type": "object",
        "required": ["cmd", "seq", "op", "args"],
        "additionalProperties": False,
        "properties": {
            "cmd": {
                "const": "run",
                "$comment": "tp.16",
            },
            "seq": {
                "$ref": "seq",
            },
            "op": {
                "$ref": "op",
            },
            "args": {
                "$ref": "object",
            },
        },
    },
    "bye": {
        "$comment": "tp.26",
        "type": "object",
        "required": ["cmd"],
        "additionalProperties": False,
        "properties": {
            "cmd": {
                "const": "bye",
                "$comment": "tp.26",
            },
        },
    },
    "greeting": {
        "$comment": "tp.10",
        "type": "object",
        "required": ["protocol", "testee", "ops", "levels", "policies", "in_flight"],
        "additionalProperties": False,
        "properties": {
            "protocol": {
                "type": "integer",
                "minimum": 1,
                "maximum": 1,
                "$comment": "tp.11",
            },
            "testee": {
                "$comment": "tp.12",
                "type": "object",
                "required": ["name", "version", "language", "runtime", "os"],
                "additionalProperties": False,
                "properties": {
                    "name": {
                        "type": "string",
                        "maxLength": 200,
                        "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$",
                        "$comment": "tp.12",
                    },
                    "version": {
                        "$ref": "fact",
                    },
                    "language": {
                        "$ref": "fact",
                    },
                    "runtime": {
                        "$ref": "fact",
                    },
                    "os": {
                        "$ref": "fact",
                    },
                    "source": {
                        "$ref": "fact",
                    },
                    "issues": {
                        "$ref": "fact",
                    },
                },
            },
            "ops": {
                "type": "array",
                "uniqueItems": True,
                "items": {
                    "$ref": "op",
                },
                "$comment": "tp.13",
            },
            "levels": {
                "$comment": "tp.13",
                "type": "array",
                "uniqueItems": True,
                "contains": {
                    "const": "core",
                },
                "items": {
                    "enum": ["core", "ed25519", "client", "outbox", "ring", "receipt"],
                    "$comment": "tp.13",
                },
            },
            "policies": {
                "$comment": "tp.14",
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "verify.off_grid": {
                        "enum": ["accept", "reject"],
                        "$comment": "tp.14",
                    },
                    "hmac.short_key": {
                        "enum": ["accept", "reject"],
                        "$comment": "tp.14",
                    },
                    "ed25519.small_order_key": {
                        "enum": ["accept", "reject"],
                        "$comment": "tp.14",
                    },
                    "ed25519.equation": {
                        "enum": ["cofactored", "cofactorless"],
                        "$comment": "tp.14",
                    },
                },
            },
            "in_flight": {
                "type": "integer",
                "minimum": 1,
                "maximum": 1024,
                "$comment": "tp.15",
            },
        },
    },
    "answer": {
        "$comment": "tp.17",
        "type": "object",
        "required": ["seq"],
        "additionalProperties": False,
        "minProperties": 2,
        "maxProperties": 2,
        "properties": {
            "seq": {
                "$ref": "seq",
            },
            "ok": {
                "$ref": "object",
            },
            "err": {
                "$comment": "tp.19",
                "type": "object",
                "required": ["code", "message"],
                "additionalProperties": False,
                "properties": {
                    "code": {
                        "type": "string",
                        "pattern": "^[a-z][a-z0-9_]*$",
                        "$comment": "tp.19",
                    },
                    "message": {
                        "type": "string",
                        "$comment": "tp.19",
                    },
                },
            },
            "skip": {
                "$comment": "tp.20",
                "type": "object",
                "required": ["reason"],
                "additionalProperties": False,
                "properties": {
                    "reason": {
                        "type": "string",
                        "minLength": 1,
                        "$comment": "tp.20",
                    },
                    "issue": {
                        "type": "string",
                        "minLength": 1,
                        "$comment": "tp.20",
                    },
                },
            },
        },
    },
    "seq": {
        "$comment": "tp.16",
        "type": "string",
        "pattern": "^[a-z0-9]+(/[a-z0-9.]+(-[a-z0-9.]+)*)+(#[0-9]+)?$",
    },
    "op": {
        "$comment": "tp.13",
        "type": "string",
        "pattern": "^[a-z0-9]+\\.[a-z0-9_]+$|^verify$",
    },
    "fact": {
        "$comment": "tp.12",
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
    },
    "object": {
        "$comment": "tp.6",
        "type": "object",
        "additionalProperties": {
            "$ref": "value",
        },
    },
    "value": {
        "$comment": "tp.6",
        "anyOf": [{
            "type": "string",
        }, {
            "type": "array",
            "items": {
                "$ref": "value",
            },
        }, {
            "$ref": "object",
        }],
    },
}
