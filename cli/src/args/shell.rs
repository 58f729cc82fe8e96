//! Arguments of what belongs to the shell: `completion`, `man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Print the completion script of a shell.
///
/// Names of instances, nodes, images, keys and projects are asked for while you
/// type, for at most a second, and left out when nobody answers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(cloudctl completion bash)
  cloudctl completion zsh > ~/.zfunc/_cloudctl
  cloudctl completion fish > ~/.config/fish/completions/cloudctl.fish")]
pub struct Completion {
    /// Which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells with a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Write the manual pages, one per command, into a directory.
#[derive(Debug, Args)]
#[command(after_help = "Example: cloudctl man ~/.local/share/man/man1")]
pub struct Man {
    /// An existing directory.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
