"""evenkeel generalize without a service manager: when it refuses, what goes and what stays. The rest is tests/machine/test_images.py's."""

import json

from vm import me, script, wait_until
from stage import VAULT

SECRET = "c4n4ry-of-the-image"


def left(vm):
    """Files below what is ours, but not the program."""
    tops = ("var/lib/evenkeel", "run/evenkeel", "etc/tls", "srv")
    return {str(path.relative_to(vm.root)) for top in tops for path in (vm.root / top).rglob("*") if not path.is_dir() or path.is_symlink()}


def told_where(vm):
    return {path for path in vm.root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()}


def test_generalize(service, platform):
    vm = service
    certificate = platform.make_certificate("shop.example", key="ec")
    name = VAULT.partition(".")[0]
    platform.put_secret(name, "web", certificate["pem"], content_type="application/x-pem-file")
    platform.put_secret(name, "word", SECRET)
    url, owner = f"https://{VAULT}/secrets", dict(zip(("owner", "group"), me()[:2]))
    keys = {"certificates": [{"name": "set", "url": f"{url}/web", "directory": f"{vm.root}/etc/tls/set", **owner},
                             {"name": "own", "url": f"{url}/web", **owner}],
            "secrets": [{"name": "word", "url": f"{url}/word", "path": f"{vm.root}/srv/app/word", **owner}]}
    foreign = vm.root / "etc/tls/set/of-others"
    # At first they were wanted elsewhere, where they stay.
    more = {"network": {"caFile": str(platform.addresses["caFile"])}, "log": {"console": False}}
    vm.enable(0, {"keyRefresh": {"certificates": [{**keys["certificates"][0], "directory": f"{vm.root}/srv/old/set"}],
                                 "secrets": [{**keys["secrets"][0], "path": f"{vm.root}/srv/old/former"}]}, **more})
    wait_until("the former places", lambda: (vm.root / "srv/old/former").exists() and "thumbprint" in vm.says("keyRefresh/set"), 10)
    vm.enable(1, {"keyRefresh": keys, "drain": {}, **more,
                  **script("echo out; until test -e go; do sleep 0.1; done", workingDirectory=str(vm.root))})
    wait_until("the secret", lambda: (vm.root / "srv/app/word").exists(), 10)
    wait_until("the certificate", lambda: (vm.root / "etc/tls/set/privkey.pem").exists() and "thumbprint" in vm.says("keyRefresh/set"), 10)
    assert {"srv/old/former", "srv/old/set/privkey.pem"} <= left(vm)
    (vm.root / "srv/old/word").write_text("of others")
    foreign.write_text("stays")
    some = {"srv/app/word", "etc/tls/set/privkey.pem", "var/lib/evenkeel/state/owner.json"}
    assert some <= left(vm) and told_where(vm)

    def refused(sentence, code, *arguments):
        done = vm.run("generalize", *arguments)
        assert done.returncode == code and sentence in done.stderr and done.stdout == "", done
        assert some <= left(vm)

    refused("say --yes", 2)
    refused("say --yes", 2, "--all")
    refused('no option "--everything"', 2, "--yes", "--everything")
    refused("runs: wait for its end", 1, "--yes")
    (vm.root / "go").touch()
    assert vm.settled()["status"] == "success"
    assert vm.run("drain", "--wait", "imaging").returncode == 0
    refused("this VM is drained", 1, "--yes")
    assert vm.run("restore").returncode == 0
    wait_until("the restore", lambda: vm.says("drain").startswith("watching"), 10)
    refused("that no service manager has started", 1, "--yes")
    vm.stop_daemon()

    settings = vm.root / "etc/evenkeel/evenkeel.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text("{}")
    for _ in range(2):
        done = vm.run("generalize", "--yes")
        assert done.returncode == 0 and "are gone" in done.stdout, done
        assert left(vm) == {"etc/tls/set/of-others", "srv/old/word"} and not told_where(vm)
        assert not list(vm.root.rglob("evenkeel.log*"))
    assert settings.exists() and (vm.root / "usr/local/bin/evenkeel").is_symlink()

    # what begins there is a VM of its own
    vm.start_daemon()
    vm.command("install")
    vm.enable(0, {})
    assert vm.settled()["status"] == "success"
    vm.stop_daemon()
    binary = vm.root / f"usr/local/libexec/evenkeel/{vm.version}/bin/evenkeel"
    done = vm.run("generalize", "--yes", "--all")
    assert done.returncode == 0, done
    assert not settings.exists() and not binary.exists() and left(vm) == {"etc/tls/set/of-others", "srv/old/word"}


def test_records_that_cannot_be_read_keep_it_from_nothing_but_what_is_later(service):
    vm = service
    vm.enable(0, {})
    vm.stop_daemon()
    state = vm.root / "var/lib/evenkeel/state"
    (state / "key-refresh/web.json").write_text(json.dumps({"format": 2}))
    done = vm.run("generalize", "--yes")
    assert done.returncode == 1 and "newer version of this program" in done.stderr
    assert (state / "key-refresh/web.json").exists() and (state / "owner.json").exists(), "what tells is removed last"
    (state / "key-refresh/web.json").write_text("{}")
    assert vm.run("generalize", "--yes").returncode == 0 and left(vm) == set()
