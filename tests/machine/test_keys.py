"""Key refresh and user data on a booted machine: the daemon in its sandbox, files installed by confined units of systemd."""

import json

import pytest

from product import VAULT, put_program

SCRIPT = b"#!/bin/sh\ntrue\n"


@pytest.fixture
def machine(new_machine):
    one = new_machine()
    one.boot()
    one.start_platform(vaults=(VAULT,))
    put_program(one)
    one.run("useradd --system app && systemctl daemon-reload")
    return one


def components(machine):
    status = json.loads(machine.run(f"{machine.program} status --json"))
    return {item["name"]: (item["status"], item["formattedMessage"]["message"])
            for item in status["status"][0]["status"].get("substatus", [])}


def test_installed_by_confined_units(machine):
    pem = machine.platform.make_certificate("shop.example", key="ec", chain=2)
    machine.platform.put_secret("shop", "web", pem["pem"], content_type="application/x-pem-file")
    machine.platform.put_secret("shop", "word", "pass word")
    machine.platform.set_user_data(SCRIPT)
    url = f"https://{VAULT}/secrets"
    machine.write("/etc/evenkeel/evenkeel.json", json.dumps({
        "userData": {},
        "keyRefresh": {
            "certificates": [
                {"name": "web", "url": f"{url}/web", "owner": "app", "group": "app", "acls": [{"user": "www-data"}]},
                {"name": "etc", "url": f"{url}/web", "directory": "/etc/app/tls", "files": {"combined": "all.pem"}}],
            "secrets": [{"name": "word", "url": f"{url}/word", "path": "/srv/app/word", "owner": "app", "group": "app"}]}}))
    machine.run("systemctl start evenkeel.socket evenkeel.service")
    wanted = {"keyRefresh/web": "success", "keyRefresh/etc": "success", "keyRefresh/word": "success", "userData": "success"}
    seen = {}

    def settled():
        seen.update(components(machine))
        return all(seen.get(name, ("", ""))[0] == level for name, level in wanted.items())

    machine.wait_until(settled, 20, "certificates, secret and user data to be well")
    home = "/var/lib/evenkeel/certificates/web"
    assert machine.read("/etc/app/tls/all.pem") == pem["leaf"] + "".join(pem["issuers"]) + pem["key"]
    assert machine.run(f"stat -Lc '%U %G %a' {home}/fullchain.pem {home}/privkey.pem /srv/app/word").splitlines() == [
        "app app 644", "app app 640", "app app 600"]  # the access list's mask shows as the group's
    # Who is named can read the key, nobody else can.
    for user, allowed in (("app", True), ("www-data", True), ("nobody", False)):
        assert (machine.status(f"setpriv --reuid={user} --clear-groups cat {home}/privkey.pem") == 0) == allowed
    # Nothing of the work is left, and the units are gone.
    assert machine.run("ls /var/lib/evenkeel/jobs /run/evenkeel/jobs | grep -c key- || true").strip() == "0"
    assert machine.run("systemctl list-units --all --plain --no-legend 'evenkeel-job-*'").strip() == ""


NGINX = """\
server {
    listen 127.0.0.1:443 ssl;
    server_name shop.example;
    ssl_certificate /etc/nginx/tls/fullchain.pem;
    ssl_certificate_key /etc/nginx/tls/privkey.pem;
}
"""
# What the check sees, and what everybody else does at that moment.
CHECK = """\
#!/bin/sh
cp "$EVENKEEL_FILE_FULLCHAIN" /run/check-saw
readlink /etc/nginx/tls/current >/run/check-current
sleep 0.2
exec nginx -t -q
"""
# Starts with no certificate that it was told to refuse.
PICKY = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c '! cmp -s /etc/nginx/tls/fullchain.pem /run/refused'
"""


class Nginx:
    """nginx with a certificate that is refreshed; another one beside it whose unit is the same."""

    def __init__(self, machine):
        self.machine = machine
        machine.run("rm /etc/nginx/sites-enabled/default")
        machine.write("/etc/nginx/conf.d/shop.conf", NGINX)
        machine.write("/usr/local/bin/check", CHECK, 0o755)
        machine.write("/etc/systemd/system/picky.service", PICKY)
        self.configure()
        self.put("mail")
        self.old = self.put()
        # Neither is there to be told of the first one.
        machine.run("systemctl start evenkeel.socket evenkeel.service")
        self.wait("web", "success", self.old["thumbprint"])
        machine.run("systemctl start nginx picky")
        assert self.served() == self.old["thumbprint"]

    def configure(self, **more):
        activate = {"check": ["/usr/local/bin/check"], "reloadUnits": ["nginx.service"], "restartUnits": ["picky.service"],
                    "verify": {"endpoint": "127.0.0.1:443", "serverName": "shop.example", "timeoutInSeconds": 10}, **more}
        url = f"https://{VAULT}/secrets"
        self.machine.write("/etc/evenkeel/evenkeel.json", json.dumps({"keyRefresh": {"certificates": [
            {"name": "web", "url": f"{url}/web", "directory": "/etc/nginx/tls", "group": "www-data", "mode": "0640",
             "activate": activate},
            {"name": "mail", "url": f"{url}/mail", "activate": {"reloadUnits": ["nginx.service", "absent.service"]}}]}}))

    def put(self, name="web"):
        certificate = self.machine.platform.make_certificate("shop.example", key="ec", chain=2)
        self.machine.platform.put_secret("shop", name, certificate["pem"], content_type="application/x-pem-file")
        return certificate

    def renew(self):
        certificate = self.put()
        self.machine.run("systemctl restart evenkeel.service")
        return certificate

    def wait(self, name, level, text, limit=30):
        seen = {}

        def said():
            seen.update(components(self.machine))
            found = seen.get(f"keyRefresh/{name}", ("", ""))
            return found[0] == level and text in found[1]

        self.machine.wait_until(said, limit, f"{name} to say {level}: {text}")
        return seen[f"keyRefresh/{name}"][1]

    def quiet(self):
        """Nothing is under way, and nothing of it is left."""
        self.machine.wait_until(lambda: '"step":"none"' in self.machine.read("/var/lib/evenkeel/state/key-refresh/web.json")
                                and not self.units(), 20, "the activation to end")

    def units(self):
        return self.machine.run("systemctl list-units --all --plain --no-legend 'evenkeel-job-*'").strip()

    def served(self):
        out = self.machine.run("openssl s_client -connect 127.0.0.1:443 -servername shop.example </dev/null 2>/dev/null | "
                               "openssl x509 -noout -fingerprint -sha1", check=False)
        return out.partition("=")[2].strip().replace(":", "")

    def wait_served(self, certificate):
        """A reload leaves the workers from before alive for a moment."""
        self.machine.wait_until(lambda: self.served() == certificate["thumbprint"], 20, "nginx to serve the one in use")

    def reloads(self):
        return self.machine.journal("-u", "nginx").count("Reloaded nginx.service")

    def picky(self):
        return self.machine.run("systemctl is-active picky", check=False).strip()


def test_a_renewal_reaches_a_real_server(machine):
    nginx = Nginx(machine)
    current = machine.run("readlink /etc/nginx/tls/current")

    # Two certificates in one cycle: the check sees the new one before anybody else, and the unit is reloaded once.
    nginx.put("mail")
    new = nginx.renew()
    nginx.wait("web", "success", f"thumbprint {new['thumbprint']}")
    nginx.quiet()
    assert machine.read("/run/check-saw") == new["leaf"] + "".join(new["issuers"])
    assert machine.read("/run/check-current") == current
    nginx.wait_served(new)
    assert nginx.reloads() == 1 and nginx.picky() == "active"

    # A check that fails: nothing has changed for anybody.
    machine.write("/etc/nginx/conf.d/broken.conf", "nonsense;\n")
    nginx.renew()
    said = nginx.wait("web", "warning", "is not put to use: the check ended with exit code 1")
    assert 'unknown directive "nonsense"' in said
    nginx.quiet()
    assert nginx.served() == new["thumbprint"] and nginx.reloads() == 1
    machine.run("rm /etc/nginx/conf.d/broken.conf")

    # A unit that does not start with the new one: it is dead for a moment, and comes back with the former.
    refused = nginx.put()
    machine.write("/run/refused", refused["leaf"] + "".join(refused["issuers"]))
    machine.run("systemctl restart evenkeel.service")
    nginx.wait("web", "error", "was rolled back: restart of picky.service")
    nginx.quiet()
    nginx.wait_served(new)
    assert nginx.picky() == "active"
    assert machine.read("/etc/nginx/tls/privkey.pem") == new["key"]


def test_a_reload_that_does_nothing_is_found_out(machine):
    nginx = Nginx(machine)
    machine.write("/run/systemd/system/nginx.service.d/reload.conf", "[Service]\nExecReload=\nExecReload=/bin/true\n")
    machine.run("systemctl daemon-reload")
    nginx.configure(verify={"endpoint": "127.0.0.1:443", "serverName": "shop.example", "timeoutInSeconds": 2})
    nginx.renew()
    said = nginx.wait("web", "error", "was rolled back: 127.0.0.1:443 does not serve it: ")
    assert f"it serves the one with thumbprint {nginx.old['thumbprint']}" in said
    nginx.quiet()
    nginx.wait_served(nginx.old)
    # A reload that fails outright, and the way back with it: told until it is heard.
    machine.write("/run/systemd/system/nginx.service.d/reload.conf", "[Service]\nExecReload=\nExecReload=/bin/false\n")
    machine.run("systemctl daemon-reload")
    nginx.renew()
    nginx.wait("web", "error", "going back to it has failed: reload or restart of nginx.service")
    machine.run("rm /run/systemd/system/nginx.service.d/reload.conf && systemctl daemon-reload")
    nginx.quiet()
    nginx.wait_served(nginx.old)


def test_the_agents_directory_lets_named_users_through(machine):
    """0700 in life: an access list on a key in the peer's store helps nobody without it."""
    pem = machine.platform.make_certificate("shop.example", key="ec", chain=2)
    machine.platform.put_secret("shop", "web", pem["pem"], content_type="application/x-pem-file")
    store = "/var/lib/waagent/Microsoft.Azure.KeyVault.Store"
    machine.run(f"mkdir -p {store} && chmod 0700 /var/lib/waagent {store}")
    machine.write("/etc/evenkeel/evenkeel.json", json.dumps({"secretsManagementSettings": {"observedCertificates": [
        {"url": f"https://{VAULT}/secrets/web", "acls": [{"user": "app"}]}]}}))
    machine.run("systemctl start evenkeel.socket evenkeel.service")
    machine.wait_until(lambda: components(machine).get("keyRefresh/shop.web", ("",))[0] == "success", 20, "the certificate")
    for user, allowed in (("app", True), ("nobody", False)):
        assert (machine.status(f"setpriv --reuid={user} --clear-groups cat {store}/shop.web.keyid") == 0) == allowed
    assert machine.run(f"getfacl -cp /var/lib/waagent | grep app").strip() == "user:app:--x"
