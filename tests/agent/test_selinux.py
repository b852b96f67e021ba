"""SELinux, on any kernel: its file system and restorecon are stand-ins below the VM's root, and Debian's policy says which label
each path of ours should get."""

import os
import stat
import sys

import pytest
from configured import VAULT, VAULT_NAME, Configured
from selinux_policy import Policy
from test_doctor import Patient, says
from vm import HANDLER, me, script

LOG = f"var/log/azure/{HANDLER}/evenkeel.log"
DROPIN = "etc/systemd/logind.conf.d/50-evenkeel.conf"
LABEL = "security.selinux"
# What is on every machine, with its label, before anything of ours comes.
THERE = {"", "/usr", "/usr/local", "/usr/local/bin", "/etc", "/etc/systemd", "/etc/systemd/system", "/var", "/var/lib", "/var/log",
         "/run"}
RESTORECON = """\
#!{python}
import os, sys
with open("{words}", "a") as file:
    file.write("".join(word + "\\n" for word in sys.argv[1:]))
for path in sys.argv[2:]:
    try:
        os.setxattr(path, "{label}", b"system_u:object_r:bin_t:s0\\0", follow_symlinks=False)
    except OSError:
        pass
{rest}
"""


def switch_on(vm, mode="enforcing", rest=""):
    for path, text in (("sys/fs/selinux/enforce", str(int(mode == "enforcing"))),
                       ("usr/sbin/restorecon", RESTORECON.format(python=sys.executable, words=vm.root / "words", label=LABEL, rest=rest))):
        file = vm.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)


def labelled(vm):
    """The paths that restorecon was given since this was asked last, as they are in life; [] for each time without any."""
    words = vm.root / "words"
    if not words.exists():
        return []
    first, *calls = words.read_text().split("--\n")
    assert not first, "an option, or no end of options"
    words.unlink()
    return [[path.removeprefix(str(vm.root)) for path in call.splitlines()] for call in calls]


def expected(vm):
    own = f"/usr/local/libexec/evenkeel/{vm.version}"
    return {"/usr/local/libexec/evenkeel", own, f"{own}/bin", f"{own}/bin/evenkeel", "/usr/local/bin/evenkeel", "/etc/evenkeel",
            "/var/lib/evenkeel", "/var/lib/evenkeel/state", "/var/lib/evenkeel/jobs", "/var/lib/evenkeel/certificates",
            f"/var/log/azure/{HANDLER}", f"/{LOG}",
            *(f"/etc/systemd/system/{unit}" for unit in ("evenkeel.service", "evenkeel.socket", "evenkeel-jobs.slice",
                                                         "evenkeel-drained.target"))}


def test_install_labels_what_it_has_written_and_enable_does_not(vm):
    switch_on(vm)
    (vm.root / "etc/evenkeel/hooks").mkdir(parents=True)
    vm.command("install")
    [paths] = labelled(vm)
    assert set(paths) == expected(vm) and len(paths) == len(set(paths))
    vm.start_daemon()
    vm.enable(0, script("true"))
    assert vm.settled()["status"] == "success"
    vm.command("disable")
    assert labelled(vm) == []
    # A drop-in that a service of before has written.
    (vm.root / DROPIN).parent.mkdir(parents=True)
    (vm.root / DROPIN).touch()
    vm.command("install")
    assert [set(call) for call in labelled(vm)] == [expected(vm) | {f"/{DROPIN}"}]


def test_where_it_is_off_nothing_is_started(vm):
    switch_on(vm)
    (vm.root / "sys/fs/selinux/enforce").unlink()
    vm.command("install")
    assert labelled(vm) == []


@pytest.mark.parametrize("rest, told", [("sys.exit('no such policy')", "exit code 1: no such policy"),
                                        ("os.kill(os.getpid(), 9)", "signal 9"), (None, "policycoreutils")])
def test_a_restorecon_that_fails_is_told_once_and_harms_nothing(vm, rest, told):
    switch_on(vm, rest=rest or "")
    if rest is None:
        (vm.root / "usr/sbin/restorecon").unlink()
    vm.command("install")
    log = (vm.root / LOG).read_text()
    [line] = [line for line in log.splitlines() if "SELinux" in line]
    assert told in line and "warning" in line.lower()
    vm.start_daemon()
    vm.enable(0, script("true"))
    assert vm.settled()["status"] == "success"
    assert "SELinux" not in (vm.root / LOG).read_text().replace(line, "")


def label(path, kind):
    """False where this file system takes none from us."""
    try:
        os.setxattr(path, LABEL, f"system_u:object_r:{kind}:s0".encode())
    except OSError:
        return False
    return True


def test_doctor(tmp_path, platform):
    with Patient(tmp_path, platform) as vm:
        vm.prepare()
        says(vm.doctor(), "selinux", "ok", "off")
        switch_on(vm)
        binary = vm.root / f"usr/local/libexec/evenkeel/{vm.version}/bin/evenkeel"
        if not label(binary, "usr_t"):
            pytest.skip("no labels can be given here")
        found = vm.doctor()
        says(found, "selinux", "error", "enforcing", f"{binary} is of type usr_t", f"restorecon -v {binary}")
        switch_on(vm, "permissive")
        says(vm.doctor(), "selinux", "warning", "permissive", "usr_t")
        label(binary, "bin_t")
        says(vm.doctor(), "selinux", "ok", f"permissive; {binary} is of type bin_t")
        label(binary, "evenkeel_exec_t")  # of a policy for us
        switch_on(vm)
        says(vm.doctor(), "selinux", "ok", "enforcing", "evenkeel_exec_t")
        os.removexattr(binary, LABEL)
        says(vm.doctor(), "selinux", "error", "its label cannot be read")
        binary.unlink()
        says(vm.doctor(), "selinux", "note", "no binary is installed")
        packaged = vm.write("usr/bin/evenkeel")
        label(packaged, "bin_t")
        says(vm.doctor(), "selinux", "ok", f"{packaged} is of type bin_t")


def tree(vm):
    return {str(path).removeprefix(str(vm.root)) for path in vm.root.rglob("*")}


def test_every_file_has_the_label_that_the_policy_has_for_it(vm, tmp_path_factory):
    """A new file has the label of its directory, which a rename within that directory does not change. What is not labelled by
    install must have the right one so."""
    policy = Policy(tmp_path_factory.mktemp("policy"))
    there = tree(vm)
    switch_on(vm, rest=f"import pathlib\nroot = pathlib.Path('{vm.root}')\n"
                       "(root / 'seen').write_text(''.join(f'{path}\\n' for path in root.rglob('*')))\n")
    stand_ins = tree(vm) - there | {"/seen", "/words"}
    vm.command("install")
    [given] = labelled(vm)
    vm.start_daemon()
    vm.enable(0, script("echo hello"))
    assert vm.settled()["status"] == "success"
    before = {path.removeprefix(str(vm.root)) for path in (vm.root / "seen").read_text().splitlines()} - there - stand_ins
    kinds = {path: stat.S_IFMT((vm.root / path[1:]).lstat().st_mode) for path in tree(vm) - there - stand_ins}

    def wanted(path):
        return policy.type_of(path, kinds.get(path, stat.S_IFDIR))

    labels = {path: wanted(path or "/") for path in THERE | there}
    for path in sorted(before):
        labels.setdefault(path, labels[path.rpartition("/")[0]])
    labels.update({path: wanted(path) for path in given})
    for path in sorted(kinds.keys() - before):
        labels.setdefault(path, labels[path.rpartition("/")[0]])
    # Where the policy says nothing, as below /run, it means what the directory has.
    assert {path: labels[path] for path in kinds if wanted(path)} == {path: wanted(path) for path in kinds if wanted(path)}
    assert len(kinds) > 20
    binary = f"/usr/local/libexec/evenkeel/{vm.version}/bin/evenkeel"
    assert labels[binary] == labels["/usr/local/bin/evenkeel"] == "bin_t"
    assert f"ExecStart={binary} daemon\n" in (vm.root / "etc/systemd/system/evenkeel.service").read_text()
    units = {labels[path] for path in kinds if path.startswith("/etc/systemd/system/")}
    assert len(units) == 1 and units <= {"systemd_unit_t", "systemd_unit_file_t"}
    assert labels["/var/lib/evenkeel/state/owner.json"] == "var_lib_t" and labels[f"/{LOG}"] == "var_log_t"
    # Why it is below a bin/: the policy has no rule for libexec below /usr/local.
    assert policy.type_of(binary.replace("/bin/", "/"), stat.S_IFREG) == "usr_t"


def test_directories_made_for_the_customers_files_are_labelled_once(tmp_path, platform):
    with Configured(tmp_path, platform) as vm:
        platform.put_secret(VAULT_NAME, "web", "the secret value of web")
        switch_on(vm, rest="sys.exit('not today')")
        (vm.root / "etc/pki").mkdir(parents=True)
        user, group = me()

        def configure(*paths):
            vm.configure(keyRefresh={"secrets": [
                {"name": f"s{n}", "url": f"https://{VAULT}/secrets/web", "path": path, "owner": user, "group": group}
                for n, path in enumerate(paths)]})

        configure("/etc/pki/app/tls/one", "/etc/pki/there")
        vm.start()
        for name in ("s0", "s1"):
            vm.wait_says(f"keyRefresh/{name}", "success")
        assert labelled(vm) == [["/etc/pki/app", "/etc/pki/app/tls"]]
        told = [line for line in vm.log_text().splitlines() if "SELinux label" in line]
        assert len(told) == 1 and "s0" in told[0] and "not today" in told[0]
        configure("/etc/pki/app/tls/one", "/etc/pki/there", "/etc/pki/app/tls/other")
        vm.restart()
        vm.wait_says("keyRefresh/s2", "success")
        assert labelled(vm) == []
