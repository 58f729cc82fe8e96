//! `scp`: copying over the same strict connection as `ssh`.

use super::{App, instance, ssh::Session};
use crate::args::ssh::Scp;
use crate::error::{Error, Result};

/// `scp`.
pub async fn run(app: &App, args: Scp) -> Result<u8> {
    let plan = plan(&args.paths)?;
    let instance = instance::get(&app.client()?, &plan.instance).await?;
    let session = Session::prepare(app, &instance, &args.login)?;
    let mut command = session.command("scp", &args.login)?;
    if args.recursive {
        command.arg("-r");
    }
    if args.legacy {
        command.arg("-O");
    }
    command.arg("--");
    for path in &plan.paths {
        command.arg(path.for_scp(&session.id));
    }
    session.run(command, "scp").await
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    instance: String,
    paths: Vec<Path>,
}

/// One side of the copy.
#[derive(Debug, PartialEq, Eq)]
enum Path {
    Local(String),
    /// A path in the guest; empty means its home directory.
    Remote(String),
}

impl Path {
    /// The argument for scp: the name is replaced by the id that its host key
    /// is known under, and a local path can be neither option nor host.
    fn for_scp(&self, id: &str) -> String {
        match self {
            Self::Remote(path) => format!("{id}:{path}"),
            Self::Local(path) if path.starts_with('/') => path.clone(),
            Self::Local(path) => format!("./{path}"),
        }
    }
}

/// Reads sources and destination: exactly one side is in exactly one instance.
fn plan(paths: &[String]) -> Result<Plan> {
    let usage = |text: &str| {
        Error::usage(text).hint("cloudctl scp ./file web:/tmp/, or cloudctl scp web:/etc/motd .")
    };
    let parsed: Vec<_> = paths.iter().map(|path| parse(path)).collect();
    let (Some(destination), sources) = (parsed.last(), &parsed[..parsed.len().saturating_sub(1)])
    else {
        return Err(usage("a source and a destination are needed"));
    };
    let remote_side = |side: &(Option<String>, Path)| side.0.is_some();
    let upload = remote_side(destination);
    if sources.is_empty() || sources.iter().any(|source| remote_side(source) == upload) {
        return Err(usage("one side must be NAME:PATH, the other a local path"));
    }
    let mut names = parsed.iter().filter_map(|side| side.0.clone());
    let instance = names.next().unwrap_or_default();
    if instance.is_empty() || names.any(|name| name != instance) {
        return Err(usage("all remote paths must be of one named instance"));
    }
    Ok(Plan {
        instance,
        paths: parsed.into_iter().map(|side| side.1).collect(),
    })
}

/// `NAME:PATH` with the colon before any slash, as scp itself reads it.
fn parse(text: &str) -> (Option<String>, Path) {
    match text.split_once(':') {
        Some((name, path)) if !name.contains('/') => {
            (Some(name.to_owned()), Path::Remote(path.to_owned()))
        }
        _ => (None, Path::Local(text.to_owned())),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn planned(paths: &[&str]) -> Result<String> {
        let paths: Vec<_> = paths.iter().map(|p| (*p).to_owned()).collect();
        let plan = plan(&paths)?;
        let args = plan.paths.iter().map(|path| path.for_scp("i-1"));
        Ok(format!(
            "{}: {}",
            plan.instance,
            args.collect::<Vec<_>>().join(" ")
        ))
    }

    #[test]
    fn either_side_may_be_the_guest() {
        let table: [(&[&str], &str); 6] = [
            (&["a", "web:/tmp/"], "web: ./a i-1:/tmp/"),
            (&["web:/a", "."], "web: i-1:/a ./."),
            (&["a", "b", "web:"], "web: ./a ./b i-1:"),
            (&["web:a", "web:b", "/tmp"], "web: i-1:a i-1:b /tmp"),
            (&["./a:b", "web:c:d"], "web: ././a:b i-1:c:d"),
            (&["-r", "web:x"], "web: ./-r i-1:x"),
        ];
        for (paths, expected) in table {
            assert_eq!(planned(paths).expect("a plan"), expected);
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        let table: [&[&str]; 6] = [
            &["a", "b"],
            &["web:a", "web:b"],
            &["web:a", "db:b", "c"],
            &["a", "web:b", "web:c"],
            &[":a", "b"],
            &["a"],
        ];
        for paths in table {
            let error = planned(paths).expect_err("no plan");
            assert_eq!(error.exit(), crate::error::Exit::Usage, "{paths:?}");
        }
    }
}
