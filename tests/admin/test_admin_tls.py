"""S49: the admin listener over TLS: the command line trusts its own certificate and no other, and cookies are secure."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from esb.trust import trusting
from tests.hostile.tools import attacked, esb
from tests.servers.certificates import make_certificates


def test_s49_pages_api_and_command_line_over_tls(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    make_certificates(tmp_path / "tls")
    settings = "bus: b\nadmin: { tls: { cert: tls/server.crt, key: tls/server.key } }\n"
    with attacked(tmp_path, {"esb.yaml": settings}, "--no-watch") as target:
        place = urlsplit(target.bus.admin)
        assert place.scheme == "https"
        assert esb("users", "add", "mia", "--role", "viewer", "--generate", cwd=tmp_path).returncode == 0
        made = esb("users", "passwd", "mia", "--generate", "--json", cwd=tmp_path)
        password = json.loads(made.stdout)["items"][0]["password"]
        token = esb("tokens", "create", "far", "--scope", "read", cwd=tmp_path).stdout.strip()
        far = {"ESB_SERVER": target.bus.admin, "ESB_TOKEN": token}
        refused = esb("status", cwd=tmp_path.parent, **far)
        assert (refused.returncode, "CERTIFICATE_VERIFY_FAILED" in refused.stderr) == (69, True), refused.stderr
        assert esb("status", cwd=tmp_path.parent, ESB_CA=str(tmp_path / "tls" / "ca.crt"), **far).returncode == 0
        context = trusting(str(tmp_path / "tls" / "ca.crt"))
        one = http.client.HTTPSConnection(place.hostname or "", place.port, context=context, timeout=10)
        form = urlencode({"user": "mia", "password": password})
        headers = {"Origin": target.bus.admin, "Content-Type": "application/x-www-form-urlencoded"}
        one.request("POST", "/login", form, headers)
        answer = one.getresponse()
        assert answer.status == 303
        assert re.search(r"; Secure(;|$)", answer.headers["set-cookie"])
        one.close()
        plain = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
        try:
            plain.request("GET", "/livez")
            assert plain.getresponse().status == 400
        except (ConnectionError, http.client.HTTPException):
            pass  # closed without a word, as well
        finally:
            plain.close()
    with attacked(tmp_path, {"esb.yaml": "bus: b\n"}, "--no-watch", "--admin", "0.0.0.0:0") as target:
        assert "admin.plain_http" in target.bus.log()
