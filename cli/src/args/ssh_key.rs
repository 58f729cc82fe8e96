//! Arguments of `ssh-key`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::complete;

/// Public keys that the cloud puts into guests.
#[derive(Debug, Subcommand)]
pub enum SshKey {
    /// Register a public key: ed25519, ecdsa, rsa of 2048 bits or more, or sk-.
    ///
    /// One line in OpenSSH form, without options. Private keys are refused
    /// before anything is sent.
    #[command(after_help = "Example: cloudctl ssh-key import me ~/.ssh/id_ed25519.pub")]
    Import {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
        /// Public key file; `-` is standard input.
        file: PathBuf,
    },
    /// Make an ed25519 pair; the cloud keeps the public half only.
    ///
    /// The private half is saved as keys/KEY-ID beside client.toml, readable by
    /// you alone, and `cloudctl ssh` finds it there.
    Generate {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
        /// Save the private half in this new file instead; `-` prints it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List keys.
    #[command(visible_alias = "ls")]
    List,
    /// Show one key.
    Show {
        /// Name or id.
        #[arg(add = complete::ssh_keys())]
        key: String,
    },
    /// Delete a key. Guests that have it keep it.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::ssh_keys())]
        key: String,
    },
}
