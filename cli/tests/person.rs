//! `cloudctl` as a person with an access key meets it: the real program, a
//! cloud in this process behind TLS, and a home directory with a context.

mod cloud;

use cloud::Cloud;

#[test]
fn an_access_key_and_a_project_go_with_every_call() {
    let cloud = Cloud::start();
    let (code, out, err) = cloud.run(&["whoami"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("you are      user/alice"), "{out}");
    // No client certificate is configured: the CA and the key are enough.
    assert_eq!(
        cloud.take_stamps(),
        [format!("Bearer {}|web", cloud::TOKEN)]
    );
    let (code, _, _) = cloud.run(&["--project", "shop", "project", "list"]);
    assert_eq!(code, 0);
    assert_eq!(
        cloud.take_stamps(),
        [format!("Bearer {}|shop", cloud::TOKEN)]
    );
}

#[test]
fn refusals_have_their_exit_code_and_a_next_step() {
    let cloud = Cloud::start();
    let (code, _, err) = cloud.run(&["show", "wbe"]);
    assert_eq!(code, 3);
    assert_eq!(
        err,
        "error: show: instance `wbe` not found\nhint: did you mean `web`?\n"
    );
    let (code, _, err) = cloud.run(&["principal", "list"]);
    assert_eq!(code, 7, "{err}");
    assert!(
        err.contains("needs admin") && err.contains("cloudctl whoami"),
        "{err}"
    );
    let (code, _, err) = cloud.run(&["launch", "micro", "--if-revision", "7"]);
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("launch --dry-run"), "{err}");
}

#[test]
fn a_dry_run_says_the_price_and_the_command_that_follows() {
    let cloud = Cloud::start();
    let (code, out, err) = cloud.run(&["launch", "micro", "--name", "a b", "--dry-run"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("0.0020 EUR per hour"), "{out}");
    let last = out.lines().last().expect("a line");
    assert!(
        last.ends_with(" launch micro --name 'a b' --if-revision 1042"),
        "{last}"
    );
    let (code, out, _) = cloud.run(&["launch", "full", "--dry-run"]);
    assert_eq!(code, 6, "{out}");
    assert!(out.contains("This would be refused: no host fits"), "{out}");
}

#[test]
fn a_script_deletes_nothing_that_nobody_confirmed() {
    let cloud = Cloud::start();
    let (code, _, err) = cloud.run(&["project", "delete", "web"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("hint: --yes"), "{err}");
    assert_eq!(cloud.deleted(), Vec::<String>::new());
    let (code, out, err) = cloud.run(&["project", "delete", "web", "--yes"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("deleted project web"), "{out}");
    assert_eq!(cloud.deleted(), ["p-0000000000000007"]);
}

#[test]
fn a_secret_is_saved_for_its_owner_and_not_printed() {
    use std::os::unix::fs::PermissionsExt;
    let cloud = Cloud::start();
    let file = cloud.path("ci.token");
    let file_text = file.to_str().expect("text");
    let create = [
        "access-key",
        "create",
        "--role",
        "member",
        "--save",
        file_text,
    ];
    let (code, out, err) = cloud.run(&create);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("cloudctl context add") && !out.contains(cloud::TOKEN),
        "{out}"
    );
    let saved = std::fs::read_to_string(&file).expect("saved");
    assert_eq!(saved.trim(), cloud::TOKEN);
    let mode = std::fs::metadata(&file)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, out, _) = cloud.run(&["access-key", "create", "--role", "member"]);
    assert!(code == 0 && out.contains(cloud::TOKEN), "{out}");
}

#[test]
fn the_story_of_an_instance_is_told() {
    let cloud = Cloud::start();
    let (code, out, err) = cloud.run(&["why", "web"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("user/alice launched it"), "{out}");
    assert!(out.contains("placed on host-1"), "{out}");
    // Gone from the list, and still told of by its events.
    let (code, out, _) = cloud.run(&["why", "old"]);
    assert!(
        code == 0 && out.starts_with("old (i-0000000000000009) is gone"),
        "{out}"
    );
    let (code, _, _) = cloud.run(&["why", "never"]);
    assert_eq!(code, 3);
}

#[test]
fn a_watch_prints_one_document_per_line_and_says_what_is_forgotten() {
    let cloud = Cloud::start();
    let (code, out, err) = cloud.run(&["watch", "instance", "--after", "5", "-o", "json"]);
    // The test's cloud ends the watch by taking the key away.
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("after revision 5 are no longer kept"), "{err}");
    assert!(err.contains("`--after 1043` goes on"), "{err}");
    let revisions = out.lines().map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).expect("JSON");
        message["revision"].as_str().expect("a number").to_owned()
    });
    assert_eq!(revisions.collect::<Vec<_>>(), ["1042", "1043"]);
}

#[test]
fn names_are_completed_from_the_cloud_and_silently_not_without_it() {
    let cloud = Cloud::start();
    assert_eq!(cloud.complete(&["cloudctl", "show", "w"]), ["web", "web-2"]);
    assert_eq!(cloud.complete(&["cloudctl", "--context", "wo"]), ["work"]);
    let none = ["cloudctl", "--config", "/nonexistent", "show", "w"];
    assert_eq!(cloud.complete(&none), Vec::<String>::new());
}
