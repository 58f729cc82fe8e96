//! Arguments of `image`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::complete;

/// What instances boot.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Check, upload and register an image directory.
    ///
    /// DIR holds image.json and the files it names; `cargo xtask image micro`
    /// builds one. Files that the cloud has already are not sent again, and an
    /// identical image is left as it is.
    Import {
        /// Directory with image.json.
        #[arg(value_name = "DIR")]
        source: PathBuf,
        /// Register under this name instead of the one in image.json.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// List images.
    #[command(visible_alias = "ls")]
    List,
    /// Show one image.
    Show {
        /// Name or id.
        #[arg(add = complete::images())]
        image: String,
    },
    /// Delete an image; refused while instances use it.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::images())]
        image: String,
    },
}
