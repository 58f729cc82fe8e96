//! `completion` and `man`: what a package or a user installs beside the program.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Cli;
use crate::args::shell::{Completion, Man, Shell};
use crate::error::{Context, Result};
use crate::output::print;

/// The variable by which the script asks this program for candidates.
const VARIABLE: &str = "COMPLETE";

/// `completion`.
pub fn completion(args: &Completion) -> Result<()> {
    print(&script(args.shell)?)
}

fn script(shell: Shell) -> Result<String> {
    use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
    let shell: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "cloudctl", "cloudctl", "cloudctl", &mut script)
        .context("the script")?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// `man`.
pub fn man(args: &Man) -> Result<()> {
    let pages = write_pages(&args.dir)?;
    print(&format!("{pages} pages in {}\n", args.dir.display()))
}

fn write_pages(dir: &Path) -> Result<usize> {
    let mut root = Cli::command();
    // Gives each command its whole path as name, and the global flags.
    root.build();
    let mut pages = 0;
    write_page(&root, "cloudctl", dir, &mut pages)?;
    Ok(pages)
}

/// One page for `command`, named `name`, and one for each below it.
fn write_page(command: &clap::Command, name: &str, dir: &Path, pages: &mut usize) -> Result<()> {
    let what = format!("`{}`", dir.join(format!("{name}.1")).display());
    let page = clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .source(concat!("cloudctl ", env!("CARGO_PKG_VERSION")))
        .manual("Nube");
    let mut text = Vec::new();
    page.render(&mut text).context(&what)?;
    std::fs::write(dir.join(format!("{name}.1")), text).context(&what)?;
    *pages += 1;
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            write_page(below, &format!("{name}-{}", below.get_name()), dir, pages)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn each_command_has_its_page() {
        let dir = tempfile::tempdir().expect("a directory");
        let pages = write_pages(dir.path()).expect("written");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), pages);
        for (page, text) in [
            ("cloudctl", "Exit codes"),
            ("cloudctl-launch", "dry\\-run"),
            ("cloudctl-access-key-create", "\\-\\-save"),
            ("cloudctl-node-label", "KEY"),
        ] {
            let path = dir.path().join(format!("{page}.1"));
            let found = std::fs::read_to_string(path).expect(page);
            assert!(found.contains(text), "{page}: {found}");
        }
        assert!(!dir.path().join("cloudctl-tunnel.1").exists(), "hidden");
        assert!(write_pages(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn each_shell_has_a_script_that_asks_this_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).expect("a script");
            assert!(
                script.contains(VARIABLE) && script.contains("cloudctl"),
                "{script}"
            );
        }
    }

    #[test]
    fn names_of_commands_are_completed() {
        let complete = |words: &[&str]| {
            let words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
            let at = words.len() - 1;
            let found = clap_complete::engine::complete(&mut Cli::command(), words, at, None);
            let found = found.expect("candidates");
            let text = |c: &clap_complete::CompletionCandidate| {
                c.get_value().to_string_lossy().into_owned()
            };
            found.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(complete(&["cloudctl", "exp"]), ["explain", "explain-path"]);
        assert_eq!(complete(&["cloudctl", "project", "quo"]), ["quota"]);
        assert_eq!(complete(&["cloudctl", "launch", "--dry"]), ["--dry-run"]);
        // No cloud is there: no names, no noise, and soon.
        let none = ["cloudctl", "--config", "/nonexistent", "show", "w"];
        assert!(complete(&none).iter().all(|name| name.starts_with('-')));
    }
}
