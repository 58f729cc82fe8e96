//! The question before what cannot be undone. Somebody must type the name of
//! what will be lost; a script says --yes.

use std::io::{BufRead, IsTerminal, Write};

use crate::args::Confirm;
use crate::error::{Context, Error, Result};
use crate::output::text::escape;

/// Asks unless --yes was given. `loss` says what will be gone, as
/// `project web and its network`.
pub fn ask(confirm: Confirm, loss: &str, name: &str) -> Result<()> {
    if confirm.yes {
        return Ok(());
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let mut stdin = std::io::stdin().lock();
    answer(&mut stdin, &mut std::io::stderr(), terminal, loss, name)
}

fn answer(
    input: &mut impl BufRead,
    prompt: &mut impl Write,
    terminal: bool,
    loss: &str,
    name: &str,
) -> Result<()> {
    let (loss, name) = (escape(loss), escape(name));
    if !terminal {
        return Err(Error::usage(format!(
            "this deletes {loss} for good, and nobody can be asked"
        ))
        .hint("--yes does it without asking"));
    }
    write!(
        prompt,
        "This deletes {loss} for good.\nType `{name}` to go on: "
    )
    .and_then(|()| prompt.flush())
    .context("standard error")?;
    let mut line = String::new();
    let mut limited = std::io::Read::take(input, 1024);
    limited.read_line(&mut line).context("standard input")?;
    match line.trim() == name {
        true => Ok(()),
        false => Err(Error::failed("not confirmed; nothing was changed")),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn typed(text: &str, terminal: bool) -> std::result::Result<String, String> {
        let mut prompt = Vec::new();
        let outcome = answer(
            &mut text.as_bytes(),
            &mut prompt,
            terminal,
            "project web",
            "web",
        );
        let prompt = String::from_utf8(prompt).expect("text");
        outcome.map(|()| prompt).map_err(|error| error.render())
    }

    #[test]
    fn only_the_name_confirms() {
        let prompt = typed("web\n", true).expect("confirmed");
        assert_eq!(
            prompt,
            "This deletes project web for good.\nType `web` to go on: "
        );
        for other in ["", "\n", "y\n", "yes\n", "WEB\n", "web-1\n"] {
            let text = typed(other, true).expect_err(other);
            assert!(text.contains("nothing was changed"), "{text}");
        }
    }

    #[test]
    fn where_nobody_can_be_asked_it_is_refused() {
        let text = typed("web\n", false).expect_err("no terminal");
        assert!(text.contains("hint: --yes"), "{text}");
    }
}
