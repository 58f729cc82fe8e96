//! Names completed while one types: the shell runs this program with COMPLETE
//! set, and it asks the cloud that the line on the prompt would mean.

use std::ffi::{OsStr, OsString};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::args::Global;
use crate::config::Contexts;
use crate::names::{self, Kind};

macro_rules! completers {
    ($($function:ident => $kind:ident),* $(,)?) => {
        $(
            /// Completes names of this kind.
            pub fn $function() -> ArgValueCompleter {
                ArgValueCompleter::new(|typed: &OsStr| live(Kind::$kind, typed))
            }
        )*
    };
}

completers! {
    instances => Instance,
    images => Image,
    types => Type,
    ssh_keys => SshKey,
    nodes => Node,
    projects => Project,
    principals => Principal,
    access_keys => AccessKey,
    networks => Network,
    subnets => Subnet,
    security_groups => SecurityGroup,
    addresses => Address,
    load_balancers => LoadBalancer,
}

/// Completes names of contexts; no cloud is asked.
pub fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let read = Contexts::path(&|name| std::env::var_os(name)).and_then(|p| Contexts::read(&p));
        let contexts = read.unwrap_or_default();
        beginning(contexts.names().into_iter().map(str::to_owned), typed)
    })
}

fn live(kind: Kind, typed: &OsStr) -> Vec<CompletionCandidate> {
    let global = on_the_line(std::env::args_os(), |name| std::env::var_os(name));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let names = runtime.block_on(names::of(&global, kind));
    beginning(names.into_iter(), typed)
}

fn beginning(names: impl Iterator<Item = String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let safe = |name: &String| !name.is_empty() && !name.contains(char::is_control);
    names
        .filter(|name| safe(name) && name.starts_with(&*typed))
        .map(CompletionCandidate::new)
        .collect()
}

/// The flags of the unfinished line that say which cloud is meant; it does not
/// parse as a whole yet.
fn on_the_line(
    line: impl Iterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Global {
    let words: Vec<String> = line
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let value = |flag: &str, variable: &str| {
        let mut found = env(variable).and_then(|value| value.into_string().ok());
        for (at, word) in words.iter().enumerate() {
            match word.strip_prefix(flag) {
                Some("") => found = words.get(at + 1).cloned().or(found),
                Some(rest) => found = rest.strip_prefix('=').map(str::to_owned).or(found),
                None => {}
            }
        }
        found.filter(|value| !value.is_empty())
    };
    Global {
        context: value("--context", "NUBE_CONTEXT"),
        project: value("--project", "NUBE_PROJECT"),
        config: value("--config", "NUBE_CONFIG").map(Into::into),
        dir: value("--dir", "NUBE_DIR").map(Into::into),
        ..Global::default()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_unfinished_line_says_which_cloud() {
        let line = "cloudctl -- cloudctl --context work launch --project=web mic";
        let env = |name: &str| (name == "NUBE_PROJECT").then(|| OsString::from("other"));
        let global = on_the_line(line.split(' ').map(OsString::from), env);
        assert_eq!(global.context.as_deref(), Some("work"));
        assert_eq!(global.project.as_deref(), Some("web"));
        let global = on_the_line(["cloudctl".into(), "--dir".into()].into_iter(), env);
        assert_eq!(
            (global.dir, global.project.as_deref()),
            (None, Some("other"))
        );
    }

    #[test]
    fn candidates_begin_as_typed_and_are_harmless() {
        let names = ["web", "web-1", "db", "web\u{1b}[2J", ""].map(str::to_owned);
        let found = beginning(names.into_iter(), OsStr::new("we"));
        let found: Vec<_> = found.iter().map(|c| c.get_value()).collect();
        assert_eq!(found, ["web", "web-1"]);
    }
}
