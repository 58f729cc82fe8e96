//! `context list`, `use`, `show`, `add`, `remove`: the clouds that a user knows.
//! No cloud is asked; only the user's file is read and written.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::App;
use crate::args::Global;
use crate::args::context::{Add, Context as Verb};
use crate::config::{
    Contexts, LOCAL, Locations, Profile, check_context_name, check_endpoint, named, read_token,
};
use crate::error::{Context, Error, Exit, Result};
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{escape, or_dash};

/// `context …`.
pub fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let path = Contexts::path(&|name| std::env::var_os(name))?;
    let contexts = Contexts::read(&path)?;
    match verb {
        Verb::List => list(app, &contexts),
        Verb::Show { name } => show(app, name),
        Verb::Use { name } => {
            let contexts = switch(contexts, &name)?;
            contexts.write(&path)?;
            let meant = app
                .locations()
                .map(|l| l.context.unwrap_or(LOCAL.to_owned()));
            say(app, &json!({ "current": name }), &format!("using {name}"))?;
            match meant {
                Ok(meant) if meant != name => crate::output::progress::warn(&format!(
                    "flags or environment name another one ({meant}), and they win"
                )),
                _ => {}
            }
            Ok(())
        }
        Verb::Add(args) => {
            let (name, use_now) = (args.name.clone(), args.use_now);
            let contexts = add(contexts, args, &app.global)?;
            contexts.write(&path)?;
            let text = match use_now {
                true => format!("added {name}, and using it"),
                false => format!("added {name}; `cloudctl context use {name}` uses it from now on"),
            };
            say(app, &json!({ "added": name }), &text)
        }
        Verb::Remove { name } => {
            let (contexts, was_current) = remove(contexts, &name)?;
            contexts.write(&path)?;
            let text = match was_current {
                true => format!("removed {name}; using {LOCAL} now"),
                false => format!("removed {name}"),
            };
            say(app, &json!({ "removed": name }), &text)
        }
    }
}

fn say(app: &App, answer: &Json, text: &str) -> Result<()> {
    app.output.value(answer, |_| escape(text) + "\n")
}

fn list(app: &App, contexts: &Contexts) -> Result<()> {
    // Flags and environment may mean another one than the file's.
    let meant = app.locations()?.context.unwrap_or(LOCAL.to_owned());
    let local = local_file(app)?;
    let mut rows = vec![Row {
        name: LOCAL.to_owned(),
        endpoints: local.display().to_string(),
        project: String::new(),
        proof: match local.exists() {
            true => "as that file says".to_owned(),
            false => "no such file".to_owned(),
        },
    }];
    rows.extend(contexts.contexts.iter().map(|(name, profile)| Row {
        name: name.clone(),
        endpoints: profile.endpoints.join(", "),
        project: profile.project.clone().unwrap_or_default(),
        proof: profile.proof(),
    }));
    let answer = json!({
        "current": meant,
        "contexts": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    app.output.value(&answer, |look| table(look, &rows, &meant))
}

/// The client.toml that `local` stands for.
fn local_file(app: &App) -> Result<PathBuf> {
    let global = Global {
        context: Some(LOCAL.to_owned()),
        config: app.global.config.clone(),
        dir: None,
        ..Global::default()
    };
    match (&global.config, &app.global.dir) {
        (Some(file), _) => Ok(file.clone()),
        (None, Some(dir)) => Ok(dir.join("client.toml")),
        (None, None) => Ok(crate::config::cloud_dir(&global)?.join("client.toml")),
    }
}

struct Row {
    name: String,
    endpoints: String,
    project: String,
    proof: String,
}

impl Row {
    fn json(&self) -> Json {
        json!({
            "name": self.name,
            "endpoints": self.endpoints,
            "project": self.project,
            "proof": self.proof,
        })
    }
}

fn table(look: Look, rows: &[Row], meant: &str) -> String {
    let mut table = Table::new(look, &["CONTEXT", "CONTROLLERS", "PROJECT", "PROOF"]);
    for row in rows {
        let name = match row.name == meant {
            true => Value::new(format!("* {}", row.name), Tone::Good),
            false => format!("  {}", row.name).into(),
        };
        table.row([
            name,
            row.endpoints.as_str().into(),
            or_dash(&row.project).into(),
            row.proof.as_str().into(),
        ]);
    }
    table.render()
}

fn show(app: &App, name: Option<String>) -> Result<()> {
    let locations = match name {
        None => app.locations()?,
        Some(name) if name == LOCAL => Locations {
            config: local_file(app)?,
            context: None,
        },
        Some(name) => Locations::of(&Global {
            context: Some(name),
            ..Global::default()
        })?,
    };
    let profile = locations.read()?;
    let name = locations.context.as_deref().unwrap_or(LOCAL);
    let answer = json!({
        "name": name,
        "file": locations.config,
        "endpoints": profile.endpoints,
        "ca": profile.ca,
        "proof": profile.proof(),
        "project": profile.project,
        "output": profile.output,
    });
    let file = locations.config.display().to_string();
    app.output
        .value(&answer, |_| details(name, &file, &profile))
}

fn details(name: &str, file: &str, profile: &Profile) -> String {
    let mut fields = Fields::default();
    fields.add("context", name);
    fields.add("file", file);
    fields.add("controllers", profile.endpoints.join(", "));
    fields.add("ca", profile.ca.display().to_string());
    fields.add("proof", profile.proof());
    fields.add(
        "project",
        named(&profile.project).unwrap_or("the caller's own"),
    );
    let output = profile.output.unwrap_or_default();
    fields.add("output", format!("{output:?}").to_lowercase());
    fields.render()
}

fn known(contexts: &Contexts, name: &str) -> Result<()> {
    if contexts.contexts.contains_key(name) {
        return Ok(());
    }
    let error = Error::new(Exit::NotFound, format!("context `{name}` is not known"));
    let names: Vec<String> = contexts.names().into_iter().map(str::to_owned).collect();
    Err(match crate::names::nearest(name, &names) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("known: {}", names.join(", "))),
    })
}

fn switch(mut contexts: Contexts, name: &str) -> Result<Contexts> {
    contexts.current = match name {
        LOCAL => None,
        _ => {
            known(&contexts, name)?;
            Some(name.to_owned())
        }
    };
    Ok(contexts)
}

fn add(mut contexts: Contexts, args: Add, global: &Global) -> Result<Contexts> {
    let name = args.name;
    check_context_name(&name).map_err(|rule| Error::usage(format!("NAME: {rule}")))?;
    if contexts.contexts.contains_key(&name) && !args.replace {
        let text = format!("context `{name}` is known already");
        return Err(Error::new(Exit::Conflict, text).hint("--replace, or another name"));
    }
    for endpoint in &args.endpoints {
        check_endpoint(endpoint)
            .map_err(|rule| Error::usage(format!("--endpoint `{endpoint}`: {rule}")))?;
    }
    if args.cert.is_none() && args.token_file.is_none() {
        return Err(Error::usage("how does the caller prove itself?")
            .hint("--token-file FILE, or --cert FILE --key FILE"));
    }
    // What cannot be read now would fail later, with less to say about it.
    let found = |path: PathBuf| {
        let path = std::path::absolute(&path).context(format!("`{}`", path.display()))?;
        let opened = std::fs::File::open(&path);
        opened.map(drop).context(format!("`{}`", path.display()))?;
        Ok::<_, Error>(path)
    };
    let profile = Profile {
        endpoints: args.endpoints,
        ca: found(args.ca)?,
        cert: args.cert.map(found).transpose()?,
        key: args.key.map(found).transpose()?,
        token: None,
        token_file: args.token_file.map(found).transpose()?,
        project: named(&global.project).map(str::to_owned),
        output: global.output,
    };
    if let Some(file) = &profile.token_file {
        read_token(file)?;
    }
    if args.use_now {
        contexts.current = Some(name.clone());
    }
    contexts.contexts.insert(name, profile);
    Ok(contexts)
}

fn remove(mut contexts: Contexts, name: &str) -> Result<(Contexts, bool)> {
    if name == LOCAL {
        return Err(Error::usage(
            "`local` is always there: it is the client.toml in --dir",
        ));
    }
    known(&contexts, name)?;
    contexts.contexts.remove(name);
    let was_current = contexts.current.as_deref() == Some(name);
    if was_current {
        contexts.current = None;
    }
    Ok((contexts, was_current))
}

#[cfg(test)]
mod test {
    use super::*;
    use clap::Parser;
    use std::os::unix::fs::PermissionsExt;

    fn parsed(line: &str) -> (Add, Global) {
        let cli = crate::args::Cli::try_parse_from(line.split(' ')).expect("parses");
        match cli.command {
            crate::args::Command::Context(Verb::Add(args)) => (args, cli.global),
            other => panic!("{other:?}"),
        }
    }

    fn files() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), "").expect("written");
        let token = dir.path().join("token");
        std::fs::write(&token, "nube1.ak-01.c2VjcmV0\n").expect("written");
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("set");
        dir
    }

    #[test]
    fn contexts_are_added_used_and_removed() {
        let dir = files();
        let at = dir.path().display();
        let line = format!(
            "cloudctl context add work --endpoint cloud.example:7101 --ca {at}/ca.pem \
             --token-file {at}/token --project web -o wide --use"
        );
        let (args, global) = parsed(&line);
        let contexts = add(Contexts::default(), args, &global).expect("added");
        assert_eq!(contexts.current.as_deref(), Some("work"));
        let profile = &contexts.contexts["work"];
        assert_eq!(profile.project.as_deref(), Some("web"));
        assert_eq!(profile.output, Some(crate::args::Format::Wide));
        assert!(profile.ca.is_absolute());

        let (args, global) = parsed(&line);
        let error = add(contexts.clone(), args, &global).expect_err("twice");
        assert_eq!(error.exit(), Exit::Conflict);
        let (args, global) = parsed(&format!("{line} --replace"));
        assert!(add(contexts.clone(), args, &global).is_ok());

        let error = switch(contexts.clone(), "wrok").expect_err("unknown");
        assert!(error.render().contains("did you mean `work`?"));
        assert_eq!(
            switch(contexts.clone(), LOCAL).expect("known").current,
            None
        );
        let (left, was_current) = remove(contexts, "work").expect("removed");
        assert!(was_current && left == Contexts::default());
        assert!(remove(left, LOCAL).is_err());
    }

    #[test]
    fn what_cannot_work_is_not_remembered() {
        let dir = files();
        let at = dir.path().display();
        let good = format!("--ca {at}/ca.pem --token-file {at}/token");
        for (rest, expected) in [
            (
                format!("local --endpoint a:1 {good}"),
                "client.toml in --dir",
            ),
            (format!("A_b --endpoint a:1 {good}"), "a-z, 0-9"),
            (format!("w --endpoint https://a:1 {good}"), "HOST:PORT"),
            (format!("w --endpoint a:1 --ca {at}/ca.pem"), "prove itself"),
            (
                format!("w --endpoint a:1 --ca {at}/no.pem --token-file {at}/token"),
                "no.pem",
            ),
            (
                format!("w --endpoint a:1 --ca {at}/ca.pem --token-file {at}/ca.pem"),
                "0600",
            ),
        ] {
            let (args, global) = parsed(&format!("cloudctl context add {rest}"));
            let error = add(Contexts::default(), args, &global).expect_err(expected);
            assert!(error.render().contains(expected), "{}", error.render());
        }
    }

    #[test]
    fn contexts_are_golden() {
        let profile = Profile {
            endpoints: vec!["cloud.example:7101".into()],
            ca: "/etc/nube/ca.pem".into(),
            token_file: Some("/etc/nube/token".into()),
            project: Some("web".into()),
            ..Profile::default()
        };
        let rows = [
            Row {
                name: LOCAL.into(),
                endpoints: "/var/lib/nube/client.toml".into(),
                project: String::new(),
                proof: "as that file says".into(),
            },
            Row {
                name: "work".into(),
                endpoints: profile.endpoints.join(", "),
                project: "web".into(),
                proof: profile.proof(),
            },
        ];
        let text = table(Look::default(), &rows, "work")
            + "\n"
            + &details("work", "/etc/nube/config.toml", &profile);
        crate::golden::check("context", &text);
    }
}
