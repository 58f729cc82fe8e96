//! What reaches OpenSSH, and above all what cannot.

use super::super::instance::test::sample;
use super::*;

const ID: InstanceId = InstanceId(0x00c0_ffee_00c0_ffee);

#[test]
fn the_known_hosts_line_holds_one_key_of_one_host() {
    let mut instance = sample("web", InstanceState::Running);
    instance.ssh_host_public_key = "ssh-ed25519 AAAAC3Nz+/= root@web".into();
    let line = known_hosts_line(ID, &instance).expect("a good key");
    assert_eq!(line, "i-00c0ffee00c0ffee ssh-ed25519 AAAAC3Nz+/=\n");
    for bad in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-rsa AAAA",
        "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB",
        "@cert-authority * ssh-ed25519 AAAA",
    ] {
        instance.ssh_host_public_key = bad.into();
        assert!(known_hosts_line(ID, &instance).is_err(), "{bad:?}");
    }
}

#[test]
fn the_proxy_command_survives_any_path() {
    let path = "/tmp/it's $(touch x) `y` 50%h \"z\"/cloudctl";
    let line = proxy_command(Path::new(path), ID, 30).expect("quotable");
    assert!(line.contains("50%%h"), "{line}");
    // ssh turns %% into %; a real shell must then see the very same word.
    let shell_line = format!("printf %s {}", line.replace("%%", "%"));
    let shell = std::process::Command::new("/bin/sh")
        .args(["-c", &shell_line])
        .output()
        .expect("a shell");
    let printed = String::from_utf8_lossy(&shell.stdout).into_owned();
    assert_eq!(printed, format!("{path}tunnel{ID}--port22--wait-ms30000"));
    assert!(proxy_command(Path::new("/a\nb"), ID, 0).is_err());
}

#[test]
fn the_check_is_strict_and_leaves_no_trace() {
    let options = options(ID, "nube", "x", Path::new("/tmp/k"), true);
    for expected in [
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/tmp/k",
        "GlobalKnownHostsFile=/dev/null",
        "HostKeyAlias=i-00c0ffee00c0ffee",
        "HostKeyAlgorithms=ssh-ed25519",
        "UpdateHostKeys=no",
        "VerifyHostKeyDNS=no",
        "ForwardAgent=no",
        "CheckHostIP=no",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
    ] {
        assert!(options.iter().any(|o| o == expected), "{expected}");
    }
}

#[test]
fn openssh_itself_reads_the_options_as_meant() {
    let options = options(
        ID,
        "nube",
        "'/a b/50%%' tunnel x",
        Path::new("/tmp/k"),
        true,
    );
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-G", "-F", "none"]);
    for option in &options {
        ssh.args(["-o", option]);
    }
    // A later value must not win over ours.
    let ssh = ssh
        .args(["-o", "StrictHostKeyChecking=no", &ID.to_string()])
        .output();
    let Ok(output) = ssh else {
        return; // No OpenSSH here: nothing to compare with.
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "stricthostkeychecking true",
        "userknownhostsfile /tmp/k",
        "hostkeyalias i-00c0ffee00c0ffee",
        "proxycommand '/a b/50%%' tunnel x",
        "user nube",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
}

#[test]
fn users_and_key_files_come_from_no_hostile_text() {
    let mut instance = sample("web", InstanceState::Running);
    assert!(login_user(&instance).is_ok());
    for bad in ["", "-oProxyCommand=x", "a b", "1a", "a\n", "root@h"] {
        instance.user = bad.into();
        assert!(login_user(&instance).is_err(), "{bad:?}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let id = "key-0000000000000007";
    std::fs::write(dir.path().join(id), "x").expect("written");
    let ids = [id, "../../etc/passwd", "key-0000000000000008"].map(str::to_owned);
    assert_eq!(saved_keys(dir.path(), &ids), [dir.path().join(id)]);
}

#[test]
fn the_temporary_file_is_private_and_goes_away() {
    use std::os::unix::fs::PermissionsExt;
    let file = KnownHosts::write("line\n").expect("written");
    let path = file.path().to_owned();
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(file);
    assert!(!path.exists());
    assert!(!is_plain(Path::new("/tmp/a b")));
    assert!(!is_plain(Path::new("/tmp/%h")));
}

#[test]
fn a_stopped_instance_says_what_to_do() {
    let error = check_state(&sample("web", InstanceState::Stopped)).expect_err("stopped");
    assert!(error.render().contains("cloudctl start web"));
    assert!(check_state(&sample("web", InstanceState::Starting)).is_ok());
}

#[test]
fn exit_codes_are_passed_on() {
    assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
    assert_eq!(exit_code(ExitStatus::from_raw(255 << 8)), 255);
    assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
}
