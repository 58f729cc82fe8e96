//! One file per noun; this one only hands out the work.

mod bill;
mod cluster;
mod image;
mod instance;
mod instance_type;
mod launch;
mod logs;
mod node;
mod scp;
mod ssh;
mod ssh_key;
mod status;
mod tunnel;
mod up;
mod wait;

use crate::args::{Cli, Command, Global, instance::Type};
use crate::client::Client;
use crate::config::Locations;
use crate::error::Result;
use crate::output::Output;

/// What every command has at hand.
pub struct App {
    pub global: Global,
    pub output: Output,
}

impl App {
    /// The cloud that flags and environment name.
    pub fn client(&self) -> Result<Client> {
        Client::open(&self.global)
    }

    /// Its directory and configuration file.
    pub fn locations(&self) -> Result<Locations> {
        Locations::of(&self.global)
    }
}

/// Runs one command; the number is the exit code of the process.
pub async fn run(cli: Cli) -> Result<u8> {
    let app = App {
        output: Output::new(cli.global.output),
        global: cli.global,
    };
    let app = &app;
    match cli.command {
        Command::Ssh(args) => return ssh::run(app, args).await,
        Command::Scp(args) => return scp::run(app, args).await,
        Command::Bill(args) => return bill::run(app, args).await,
        Command::Up(args) => up::run(app, args).await?,
        Command::Down(args) => up::down(app, &args).await?,
        Command::Status => status::run(app).await?,
        Command::Launch(args) => launch::run(app, args).await?,
        Command::List(args) => instance::list(app, args).await?,
        Command::Show(args) => instance::show(app, args).await?,
        Command::Start(args) => instance::change(app, instance::Wish::Start, args, false).await?,
        Command::Delete(args) => instance::change(app, instance::Wish::Delete, args, false).await?,
        Command::Stop(args) => {
            instance::change(app, instance::Wish::Stop, args.change, args.force).await?;
        }
        Command::Reboot(args) => {
            instance::change(app, instance::Wish::Reboot, args.change, args.force).await?;
        }
        Command::Logs(args) => logs::run(app, args).await?,
        Command::Image(verb) => image::run(app, verb).await?,
        Command::Type(Type::List) => instance_type::list(app).await?,
        Command::SshKey(verb) => ssh_key::run(app, verb).await?,
        Command::Node(verb) => node::run(app, verb).await?,
        Command::Cluster(verb) => cluster::run(app, verb).await?,
        Command::Tunnel(args) => tunnel::run(app, args).await?,
    }
    Ok(0)
}
