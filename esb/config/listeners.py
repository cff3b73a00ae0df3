"""The settings of ``esb.yaml`` about the two listeners, and about who may do what on the one of the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from esb.secret import Secret
from esb.spec import option
from esb.spec.kinds import Size


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of a listener; PEM files."""

    cert: str = option(doc="Certificate chain.", example="tls/bus.crt")
    key: str = option(doc="Private key.", example="tls/bus.key")
    client_ca: str | None = option(
        default=None, doc="Ask clients for a certificate of this authority.", example="tls/clients.crt"
    )


@dataclass(frozen=True, slots=True)
class HttpListener:
    """The ingress listener of routes."""

    host: str = option(default="127.0.0.1", doc="Address to listen on.", example="127.0.0.1")
    port: int = option(default=8080, doc="Port; 0 takes a free one.", example=8080, minimum=0, maximum=65535)
    max_body: Size = option(default=10_000_000, doc="Largest body that is taken.", example="10MB")
    tls: Tls | None = option(default=None, doc="Serve HTTPS.")
    allow_hosts: tuple[str, ...] = option(
        default=(),
        doc="Host names under which routes may be called, besides loopback; without it under every name.",
        example="[esb.plant.example]",
    )


@dataclass(frozen=True, slots=True)
class Oidc:
    """An OpenID Connect provider that users of the pages may come by; needs the extra `oidc`."""

    issuer: str = option(
        doc="Its address, exactly as it calls itself.", example="https://login.plant.example/realms/graz"
    )
    client_id: str = option(doc="The name under which it knows this bus.", example="esb-graz")
    client_secret: Secret | None = option(
        default=None, doc="The secret of a confidential client.", example="${secret:oidc-client}"
    )
    roles: Mapping[str, tuple[str, ...]] = option(
        doc="Roles or rights for each group; who is in none of them is not let in.",
        example="{ esb-operators: [operator], quality-graz: [engineer@P10] }",
    )
    groups_claim: str = option(default="groups", doc="The claim with the list of groups.", example="groups")
    name_claim: str = option(
        default="preferred_username", doc="The claim with the name of the user.", example="preferred_username"
    )
    scopes: tuple[str, ...] = option(
        default=("openid", "profile", "email"), doc="What is asked for.", example="[openid, profile, groups]"
    )
    redirect: str = option(
        default="",
        doc="Address of the pages as browsers know it, without a path; without it what the browser calls.",
        example="https://esb-admin.plant.example",
    )
    label: str = option(default="your company account", doc="What the login page calls it.", example="Plant Graz ID")
    ca: str = option(default="", doc="PEM file with the authority of its certificate.", example="tls/ca.pem")


@dataclass(frozen=True, slots=True)
class AdminTls:
    """TLS of the admin listener; PEM files."""

    cert: str = option(doc="Certificate chain.", example="tls/admin.crt")
    key: str = option(doc="Private key.", example="tls/admin.key")


@dataclass(frozen=True, slots=True)
class AdminListener:
    """The listener of the API, metrics and health."""

    host: str = option(default="127.0.0.1", doc="Address to listen on.", example="127.0.0.1")
    port: int = option(default=8081, doc="Port; 0 takes a free one.", example=8081, minimum=0, maximum=65535)
    token: Secret | None = option(
        default=None,
        doc="Bearer token for callers other than the local command line; required off loopback.",
        example="${secret:admin-token}",
    )
    tls: AdminTls | None = option(
        default=None,
        doc="Serve HTTPS; off loopback use it, or a proxy that ends TLS.",
        example="{ cert: tls/admin.crt, key: tls/admin.key }",
    )
    allow_hosts: tuple[str, ...] = option(
        default=(), doc="Host names under which the listener may be called, besides loopback."
    )
    auth: Literal["auto", "required"] = option(
        default="auto",
        doc="`auto`: loopback may read without a login until there is a user or a `token`; `required`: nobody may.",
        example="required",
    )
    oidc: Oidc | None = option(
        default=None, doc="Log in with an identity provider; from then on nobody reads without a login."
    )
    session_idle: timedelta = option(
        default=timedelta(minutes=30), doc="A session of the pages ends after so long without a request.", example="15m"
    )
    session_max: timedelta = option(
        default=timedelta(hours=12), doc="A session of the pages ends after so long in any case.", example="8h"
    )


@dataclass(frozen=True, slots=True)
class Approval:
    """From how many messages on an action waits for a second person; without a number it never does."""

    retry: int | None = option(default=None, doc="Retrying dead letters.", example=50, minimum=1)
    discard: int | None = option(default=None, doc="Discarding messages.", example=1, minimum=1)
    edit: int | None = option(default=None, doc="Editing a payload (1, or never).", example=1, minimum=1)
    replay: int | None = option(default=None, doc="Replaying messages.", example=20, minimum=1)
    always: tuple[str, ...] = option(
        default=(),
        doc="Criticalities whose messages make the actions named above wait, however few they are.",
        example="[release-blocking]",
    )
    expires: timedelta = option(
        default=timedelta(days=7), doc="A request that nobody decided is over after so long.", example="3d"
    )
