//! Which cloud is meant, and which files are refused.

use super::*;
use std::os::unix::fs::PermissionsExt;

const CERTIFICATE: &str =
    "endpoints = [\"127.0.0.1:7101\"]\nca = \"ca.pem\"\ncert = \"/c.pem\"\nkey = \"k.pem\"\n";
const TOKEN: &str = "nube1.ak-0000000000000001.c2VjcmV0";

/// A home directory with a `config.toml`, and no other environment.
struct Home {
    dir: tempfile::TempDir,
    env: Vec<(&'static str, OsString)>,
}

impl Home {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().as_os_str().to_owned();
        let made = Self {
            dir,
            env: vec![("HOME", home)],
        };
        made.write(".config/nube/config.toml", config, 0o600);
        made
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        path
    }

    fn choose(&self, global: &Global) -> Result<Locations> {
        let get = |name: &str| {
            let found = self.env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        Locations::choose(global, get)
    }

    /// The name of the context, or the file's.
    fn chosen(&self, global: &Global) -> String {
        match self.choose(global) {
            Ok(Locations {
                context: Some(context),
                ..
            }) => context,
            Ok(Locations { config, .. }) => config.display().to_string(),
            Err(error) => error.render(),
        }
    }
}

fn global(context: Option<&str>, dir: Option<&str>) -> Global {
    Global {
        context: context.map(str::to_owned),
        dir: dir.map(PathBuf::from),
        ..Global::default()
    }
}

fn two_contexts() -> String {
    let body = "endpoints = [\"a:1\"]\nca = \"ca.pem\"\ntoken_file = \"t\"\n";
    format!("current = \"work\"\n[contexts.work]\n{body}[contexts.home]\n{body}")
}

#[test]
fn the_command_line_beats_the_environment_and_that_beats_the_file() {
    let mut home = Home::new(&two_contexts());
    assert_eq!(home.chosen(&global(None, None)), "work");
    assert_eq!(home.chosen(&global(Some(""), None)), "work");
    assert_eq!(home.chosen(&global(Some("home"), None)), "home");
    assert_eq!(
        home.chosen(&global(None, Some("/srv/x"))),
        "/srv/x/client.toml"
    );
    let local = home.chosen(&global(Some(LOCAL), None));
    assert!(local.ends_with("/client.toml"), "{local}");

    home.env.push(("NUBE_CONTEXT", "home".into()));
    let both = global(Some("home"), Some("/srv/x"));
    assert_eq!(home.chosen(&both), "/srv/x/client.toml", "--dir was typed");
    home.env.push(("NUBE_DIR", "/srv/x".into()));
    assert!(home.chosen(&both).contains("NUBE_CONTEXT names one cloud"));
    let typed = global(Some("work"), Some("/srv/x"));
    assert_eq!(home.chosen(&typed), "work", "--context was typed");
    home.env.retain(|(name, _)| *name == "HOME");
    assert!(home.chosen(&both).contains("--context names one cloud"));
}

#[test]
fn a_context_is_read_from_the_users_file() {
    let home = Home::new(&two_contexts());
    let locations = home.choose(&global(Some("home"), None)).expect("chosen");
    let profile = locations.read().expect("valid");
    assert!(profile.ca.ends_with(".config/nube/ca.pem") && profile.ca.is_absolute());
    let error = home
        .choose(&global(Some("hoem"), None))
        .and_then(|locations| locations.read())
        .expect_err("unknown");
    assert_eq!(error.exit(), Exit::NotFound);
    assert!(
        error.render().contains("known: local, home, work"),
        "{}",
        error.render()
    );
}

#[test]
fn a_child_process_finds_the_same_cloud() {
    let home = Home::new(&two_contexts());
    let work = home.choose(&global(None, None)).expect("chosen");
    assert!(
        work.environment()
            .contains(&("NUBE_CONTEXT", Some("work".into())))
    );
    assert!(work.environment().contains(&("NUBE_DIR", None)));
    let local = home.choose(&global(None, Some("/srv/x"))).expect("chosen");
    let file = Some("/srv/x/client.toml".into());
    assert!(local.environment().contains(&("NUBE_CONFIG", file)));
    assert!(local.environment().contains(&("NUBE_CONTEXT", None)));
    assert_eq!(local.keys(), Path::new("/srv/x/keys"));
}

#[test]
fn files_that_break_a_rule_are_refused_by_name() {
    let without = |line: &str| CERTIFICATE.replace(line, "");
    let with = |line: &str| format!("{CERTIFICATE}{line}\n");
    let table = [
        (without("ca = \"ca.pem\"\n"), "missing field `ca`"),
        (
            without("endpoints = [\"127.0.0.1:7101\"]\n"),
            "missing field `endpoints`",
        ),
        (
            CERTIFICATE.replace("[\"127.0.0.1:7101\"]", "[]"),
            "`endpoints` is empty",
        ),
        (CERTIFICATE.replace("127.0.0.1", "https://x"), "HOST:PORT"),
        (CERTIFICATE.replace("7101", "0"), "HOST:PORT"),
        (
            without("key = \"k.pem\"\n"),
            "`cert` and `key` belong together",
        ),
        (with("token_file = \"t\""), "only one of `cert`"),
        (with("tokne = \"t\""), "unknown field `tokne`"),
        (with("output = \"xml\""), "unknown variant `xml`"),
    ];
    let home = Home::new("");
    for (text, expected) in table {
        let file = home.write("client.toml", &text, 0o600);
        let config = Global {
            config: Some(file),
            ..Global::default()
        };
        let error = home.choose(&config).and_then(|l| l.read());
        let text = error.expect_err(expected).render();
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(text.contains("client.toml"), "the file is named: {text}");
    }
}

#[test]
fn unknown_keys_of_the_users_file_are_refused_by_name() {
    for (text, expected) in [
        ("curent = \"x\"\n", "unknown field `curent`"),
        (
            "[contexts.work]\nendpoint = []\n",
            "unknown field `endpoint`",
        ),
        ("[contexts.Work]\nendpoints = []\nca = \"x\"\n", "`Work`"),
        ("[contexts.local]\nendpoints = []\nca = \"x\"\n", "`local`"),
    ] {
        let text = Home::new(text).chosen(&global(None, None));
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn an_access_key_that_others_can_read_is_refused() {
    let home = Home::new(&two_contexts());
    let read = || {
        let profile = home.choose(&global(None, None))?.read()?;
        profile.credentials()
    };
    let file = home.write(".config/nube/t", &format!("{TOKEN}\n"), 0o644);
    let text = read().expect_err("readable by others").render();
    assert!(
        text.contains("mode 0644, not 0600") && text.contains("chmod 600"),
        "{text}"
    );
    assert!(!text.contains("c2VjcmV0"), "{text}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
    match read().expect("private") {
        Credentials::AccessKey(token) => {
            assert_eq!(token.0, TOKEN);
            assert!(!format!("{token:?}").contains("c2VjcmV0"));
        }
        other => panic!("{other:?}"),
    }
    home.write(".config/nube/t", "two\nlines", 0o600);
    assert!(
        read()
            .expect_err("no key")
            .render()
            .contains("nube1.ID.SECRET")
    );
    // The same holds for a key that stands in the configuration itself.
    let inline = format!("[contexts.a]\nendpoints = [\"a:1\"]\nca = \"c\"\ntoken = \"{TOKEN}\"\n");
    home.write(".config/nube/config.toml", &inline, 0o640);
    let text = home.chosen(&global(None, None));
    assert!(text.contains("mode 0640"), "{text}");
}

#[test]
fn the_users_file_is_written_whole_and_read_back() {
    let home = Home::new(&two_contexts());
    let path = home.dir.path().join(".config/nube/config.toml");
    let mut contexts = Contexts::read(&path).expect("valid");
    contexts.current = None;
    contexts.contexts.remove("home");
    contexts.write(&path).expect("written");
    assert_eq!(Contexts::read(&path).expect("valid"), contexts);
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let left = std::fs::read_dir(path.parent().expect("a parent")).expect("read");
    assert_eq!(left.count(), 1, "nothing temporary stays");
}

#[test]
fn no_cloud_says_how_to_make_one() {
    let home = Home::new("");
    let error = home
        .choose(&global(None, Some("/nonexistent/cloud")))
        .and_then(|l| l.read())
        .expect_err("nothing there");
    assert_eq!(error.exit(), Exit::Unavailable);
    assert!(error.render().contains("cloudctl up"));
}
