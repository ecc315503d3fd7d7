"""Checks the key of every request: LiteLLM's `custom_auth`, written by litellm-config; edits are lost.

The master key opens everything. A task's token, `sk-goat1.<key id>.<claims>.<mac>`, opens what its claims grant, until
they expire or their run is revoked; crate goat-keys describes and issues them. Everything else is refused. The
switches enable_post_custom_auth_checks and custom_auth_run_common_checks make LiteLLM keep to what is returned here.

Environment: LITELLM_MASTER_KEY; GOAT_TASK_SIGNING_KEY (hexadecimal, commas between several); GOAT_REVOKED_RUNS, a file
of lines `<run> <unix time>`, read again when it changes.
"""

import base64
import hashlib
import hmac
import json
import os
import time

from fastapi import HTTPException
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

PREFIX = "sk-goat1"

# What a task may ask for. LiteLLM's group `llm_api_routes` also has routes that pass a provider's key on.
ROUTES = [
    "/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions", "/v1/embeddings", "/embeddings",
    "/v1/responses", "/responses", "/v1/messages", "/v1/models", "/models", "/v1/model/info", "/model/info",
]


def signing_keys():
    """The keys by their ids. Without one the proxy must not start: it would refuse every task."""
    keys = {}
    for text in os.environ.get("GOAT_TASK_SIGNING_KEY", "").split(","):
        if text.strip():
            key = bytes.fromhex(text.strip())
            if len(key) < 32:
                raise ValueError("GOAT_TASK_SIGNING_KEY is shorter than 32 bytes")
            keys[hashlib.sha256(b"goat-keys id\0" + key).hexdigest()[:8]] = key
    if not keys:
        raise ValueError("GOAT_TASK_SIGNING_KEY is not set")
    return keys


KEYS = signing_keys()
revoked = {"stamp": None, "runs": frozenset()}


class Refused(Exception):
    """Why a key is not taken."""


def decoded(text):
    """URL-safe base64 without padding, in the one spelling that it has."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise Refused("the key is not valid")
    return data


def revoked_runs():
    """Runs whose tokens are no longer taken. A file that cannot be read lets nobody in."""
    path = os.environ.get("GOAT_REVOKED_RUNS")
    if not path:
        return frozenset()
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return frozenset()
    stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
    if revoked["stamp"] != stamp:
        with open(path, encoding="utf-8") as file:
            lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
        revoked["runs"] = frozenset(run for run, _until in lines)
        revoked["stamp"] = stamp
    return revoked["runs"]


def claims_of(token):
    """The claims of a token whose signature is right, that lives, and whose run is not revoked."""
    signed, _, mac = token.rpartition(".")
    parts = signed.split(".")
    if len(parts) != 3 or parts[0] != PREFIX or parts[1] not in KEYS:
        raise Refused("the key is not valid")
    right = hmac.new(KEYS[parts[1]], signed.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(right, decoded(mac)):
        raise Refused("the key is not valid")
    claims = json.loads(decoded(parts[2]))
    if time.time() >= claims["exp"]:
        raise Refused("the key has expired")
    if claims["run"] in revoked_runs():
        raise Refused("the key's run is revoked")
    return claims


def granted(token, claims, call):
    """What LiteLLM is to keep to, for this call of the door. Names of run and task reach the traces, where the agent cannot change them."""
    name = hashlib.sha256(token.encode()).hexdigest()
    return UserAPIKeyAuth(
        api_key="goat-" + name[:32],
        key_alias=f"{claims['run']}/{claims['task']}",
        user_id=claims["run"],
        # An empty list would mean every model.
        models=claims["models"] or ["no-default-models"],
        allowed_routes=ROUTES,
        rpm_limit=claims.get("rpm"),
        tpm_limit=claims.get("tpm"),
        max_parallel_requests=claims.get("parallel"),
        max_budget=claims.get("budget"),
        metadata={
            "run": claims["run"], "task": claims["task"], "token": claims.get("jti"), "tags": claims.get("tags", []),
            "call": call,
        },
    )


def is_master(api_key):
    master = os.environ.get("LITELLM_MASTER_KEY", "")
    return bool(master) and hmac.compare_digest(api_key.encode(), master.encode())


async def user_api_key_auth(request, api_key):
    """What LiteLLM calls. Anything but HTTPException would be answered with 500."""
    try:
        api_key = (api_key or "").removeprefix("Bearer ").strip()
        call = request.headers.get("x-goat-call")
        if is_master(api_key):
            return UserAPIKeyAuth(
                api_key=api_key, user_id="goat-admin", user_role=LitellmUserRoles.PROXY_ADMIN, metadata={"call": call},
            )
        return granted(api_key, claims_of(api_key), call)
    except Refused as refused:
        raise HTTPException(status_code=401, detail=str(refused)) from None
    except Exception:
        raise HTTPException(status_code=401, detail="the key is not valid") from None
