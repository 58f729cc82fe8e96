//! One file per noun; this one only hands out the work.

/// One call of a generated client, with its retries.
macro_rules! call {
    ($client:expr, $what:expr, $service:ident . $method:ident ( $request:expr )) => {{
        let request = $request;
        let attempt = |link| {
            let request = request.clone();
            async move { $service::new(link).$method(request).await }
        };
        $client.call($what, attempt).await
    }};
}

/// Every page of a list, merged into one answer.
macro_rules! pages {
    ($client:expr, $what:expr, $service:ident . $method:ident ( $request:expr ) -> $list:ident) => {{
        let mut request = $request;
        request.page_size = nube_types::limits::PAGE_SIZE_MAX;
        let mut merged = call!($client, $what, $service.$method(request.clone()))?;
        while !merged.next_page_token.is_empty() {
            request.page_token = std::mem::take(&mut merged.next_page_token);
            let page = call!($client, $what, $service.$method(request.clone()))?;
            merged.$list.extend(page.$list);
            merged.revision = page.revision;
            merged.next_page_token = page.next_page_token;
        }
        merged
    }};
}

mod access_key;
mod address;
mod bill;
mod cluster;
mod console;
mod context;
mod doctor;
mod event;
mod explain;
mod image;
mod instance;
mod instance_type;
mod join;
mod launch;
mod load_balancer;
mod logs;
mod member;
mod network;
mod node;
mod path;
mod preview;
mod principal;
mod project;
mod scp;
mod security_group;
mod shell;
mod ssh;
mod ssh_key;
mod status;
mod subnet;
mod tunnel;
mod up;
mod wait;
mod watch;
mod whoami;
mod why;

use crate::args::{Cli, Command, Global, instance::Type};
use crate::client::Client;
use crate::config::Locations;
use crate::error::{Error, Exit, Result};
use crate::names;
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

    /// The file that says which cloud that is.
    pub fn locations(&self) -> Result<Locations> {
        Locations::of(&self.global)
    }

    /// The directory of this machine's own cloud.
    pub fn cloud_dir(&self) -> Result<std::path::PathBuf> {
        crate::config::cloud_dir(&self.global)
    }

    /// How answers are printed: as the flag says, else as the context says. A
    /// broken file is told by whoever needs more of it.
    fn format(global: &Global) -> crate::args::Format {
        let configured = || Locations::of(global).and_then(|l| l.read()).ok()?.output;
        global.output.or_else(configured).unwrap_or_default()
    }
}

/// Runs one command; the number is the exit code of the process.
pub async fn run(cli: Cli) -> Result<u8> {
    let app = App {
        output: Output::new(App::format(&cli.global)),
        global: cli.global,
    };
    match dispatch(&app, cli.command).await {
        Err(error) if error.exit() == Exit::NotFound => Err(suggest(&app, error).await),
        other => other,
    }
}

/// Names the thing that was probably meant.
async fn suggest(app: &App, error: Error) -> Error {
    let Some(subject) = error.subject().cloned() else {
        return error;
    };
    let Some(kind) = names::Kind::from_word(&subject.kind) else {
        return error;
    };
    let known = names::of(&app.global, kind).await;
    match names::nearest(&subject.name, &known) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error,
    }
}

async fn dispatch(app: &App, command: Command) -> Result<u8> {
    match command {
        Command::Ssh(args) => return ssh::run(app, args).await,
        Command::Scp(args) => return scp::run(app, args).await,
        Command::Bill(args) => return bill::run(app, args).await,
        Command::Doctor(args) => return doctor::run(app, &args).await,
        Command::Up(args) => up::run(app, args).await?,
        Command::Down(args) => up::down(app, &args).await?,
        Command::Status => status::run(app).await?,
        Command::Launch(args) if args.dry_run => return preview::run(app, args).await,
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
        Command::Console(args) => console::run(app, args).await?,
        Command::Logs(args) => logs::run(app, args).await?,
        Command::Image(verb) => image::run(app, verb).await?,
        Command::Type(Type::List) => instance_type::list(app).await?,
        Command::SshKey(verb) => ssh_key::run(app, verb).await?,
        Command::Node(verb) => node::run(app, verb).await?,
        Command::Cluster(verb) => cluster::run(app, verb).await?,
        Command::Why(args) => why::run(app, args).await?,
        Command::Explain(args) => explain::run(app, args).await?,
        Command::Events(args) => event::run(app, args).await?,
        Command::Watch(args) => watch::run(app, args).await?,
        Command::Network(verb) => network::run(app, verb).await?,
        Command::Subnet(verb) => subnet::run(app, verb).await?,
        Command::SecurityGroup(verb) => security_group::run(app, verb).await?,
        Command::Address(verb) => address::run(app, verb).await?,
        Command::LoadBalancer(verb) => load_balancer::run(app, verb).await?,
        Command::ExplainPath(args) => path::run(app, args).await?,
        Command::Project(verb) => project::run(app, verb).await?,
        Command::Principal(verb) => principal::run(app, verb).await?,
        Command::AccessKey(verb) => access_key::run(app, verb).await?,
        Command::WhoAmI => whoami::run(app).await?,
        Command::Context(verb) => context::run(app, verb)?,
        Command::Completion(args) => shell::completion(&args)?,
        Command::Man(args) => shell::man(&args)?,
        Command::Join(args) => join::run(app, args).await?,
        Command::Tunnel(args) => tunnel::run(app, args).await?,
    }
    Ok(0)
}
