//! The hidden subcommand as the agent starts it: the deadline is its standard
//! input, the guest's pid its argument.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nube_agent::fencer::{Deadline, SUBCOMMAND};

#[test]
fn the_program_ends_a_guest_whose_deadline_is_over() {
    let dir = tempfile::tempdir().expect("dir");
    let deadline = Deadline::open(dir.path(), "test").expect("open");
    let mut guest = Command::new("/bin/sleep")
        .arg("600")
        .spawn()
        .expect("guest");
    let fencer = Command::new(env!("CARGO_BIN_EXE_cloud-agent"))
        .args([SUBCOMMAND, &guest.id().to_string()])
        .stdin(File::open(deadline.path()).expect("open"))
        .stdout(Stdio::null())
        .status();
    let ended = guest.wait().expect("gone");
    assert_eq!(ended.signal(), Some(9), "{ended:?}");
    // Only a parent can collect its child: this one is the test's.
    assert!(!fencer.expect("it ran").success());
}
