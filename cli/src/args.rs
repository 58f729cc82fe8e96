//! The command line's grammar: every flag, its unit, limit and example.
//! Only clap lives here; what a command does is in `commands/<noun>.rs`.

pub mod address;
pub mod bill;
pub mod cloud;
pub mod cluster;
pub mod context;
pub mod doctor;
pub mod event;
pub mod image;
pub mod instance;
pub mod join;
pub mod load_balancer;
pub mod network;
pub mod node;
pub mod principal;
pub mod project;
pub mod security_group;
pub mod shell;
pub mod ssh;
pub mod ssh_key;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::complete;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    refused or failed; the text says why
  2    the command line is wrong
  3    not found
  4    no controller answered in time; repeating is safe
  5    the name exists already, or somebody changed it at the same time
  6    no host has room, or a quota is used up
  7    not allowed: no valid certificate or access key, or the role is too small
  255  of `ssh` and `scp`: ssh itself failed (otherwise the remote command's code)

First steps:
  cloudctl up                      a whole cloud on this machine
  cloudctl ssh-key generate me     a key to log in with
  cloudctl image import DIR        something to boot
  cloudctl launch micro --name web
  cloudctl ssh web
  cloudctl bill";

/// Nube: a cloud whose state and whose bill you can check.
#[derive(Debug, Parser)]
#[command(name = "cloudctl", version, after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Which cloud, by its name in ~/.config/nube/config.toml. Default: the one
    /// in use (`cloudctl context list`), else the client.toml in --dir.
    #[arg(long, global = true, env = "NUBE_CONTEXT", hide_env_values = true)]
    #[arg(value_name = "NAME", add = complete::contexts())]
    pub context: Option<String>,

    /// Project that the call goes to, name or id. Default: the context's, else
    /// the caller's own.
    #[arg(long, global = true, env = "NUBE_PROJECT", hide_env_values = true)]
    #[arg(value_name = "NAME", add = complete::projects())]
    pub project: Option<String>,

    /// A client.toml (endpoints, CA, certificate, key) instead of a context.
    /// Default: `client.toml` in --dir.
    #[arg(long, global = true, env = "NUBE_CONFIG", hide_env_values = true)]
    #[arg(value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The directory of this machine's cloud. Default: /var/lib/nube for root,
    /// otherwise $XDG_DATA_HOME/nube (~/.local/share/nube).
    #[arg(long, global = true, env = "NUBE_DIR", hide_env_values = true)]
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,

    /// How answers are printed: table, wide, json, yaml; bills also csv. json
    /// and yaml are proto3 JSON with the contract's own field names. Default:
    /// the context's, else table.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    #[arg(hide_possible_values = true)]
    pub output: Option<Format>,

    /// Give up when no controller has answered for this long. [default: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,

    /// Name of this mutation (UUID): the same id again returns the first
    /// outcome instead of doing it twice. Default: drawn.
    #[arg(long, global = true, value_name = "UUID", value_parser = parse_request_id)]
    pub request_id: Option<String>,
}

/// How answers are printed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people, 80 columns.
    #[default]
    Table,
    /// For people, every column.
    Wide,
    /// For programs.
    Json,
    /// The same content as json.
    Yaml,
    /// Bills and usage, for spreadsheets.
    Csv,
}

/// For what cannot be undone.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Confirm {
    /// Do not ask. Needed where nobody can be asked: in scripts.
    #[arg(short, long)]
    pub yes: bool,
}

/// The verbs of every day first, then the groups.
#[derive(Debug, Subcommand)]
pub enum Command {
    Up(cloud::Up),
    Down(cloud::Down),
    /// Controllers, nodes, instances and the bill so far, on one screen.
    Status,
    Launch(instance::Launch),
    #[command(visible_alias = "ls")]
    List(instance::List),
    Show(instance::Show),
    /// Start stopped or failed instances; harmless when they run.
    Start(instance::Change),
    /// Stop instances; disk and address stay.
    ///
    /// Presses the power button and cuts the power after 30 s. Billing ends
    /// when the request is committed.
    Stop(instance::ForceChange),
    /// Power button and a new boot on the same host.
    Reboot(instance::ForceChange),
    /// Delete instances; the disks are lost.
    ///
    /// Accepted in every state and wins over every other wish. Billing ends
    /// when the request is committed.
    #[command(visible_alias = "rm")]
    Delete(instance::Change),
    Ssh(ssh::Ssh),
    Console(instance::Console),
    Scp(ssh::Scp),
    Logs(instance::Logs),
    Why(event::Why),
    Explain(event::Explain),
    Events(event::Events),
    Watch(event::Watch),
    Bill(bill::Bill),
    /// What instances boot: import, list, show, delete.
    #[command(subcommand, arg_required_else_help = true)]
    Image(image::Image),
    /// Sizes on offer and what they cost.
    #[command(subcommand, arg_required_else_help = true)]
    Type(instance::Type),
    /// Keys that may log in: import, generate, list, show, delete.
    #[command(subcommand, arg_required_else_help = true)]
    SshKey(ssh_key::SshKey),
    /// Private networks: create, list, show, attach-gateway, detach-gateway, map,
    /// delete.
    #[command(subcommand, arg_required_else_help = true)]
    Network(network::Network),
    /// Ranges of networks: create, list, show, delete.
    #[command(subcommand, arg_required_else_help = true)]
    Subnet(network::Subnet),
    /// What may pass to and from instances: create, list, show, add-rule,
    /// remove-rule, attach, detach, delete.
    #[command(subcommand, arg_required_else_help = true)]
    SecurityGroup(security_group::SecurityGroup),
    /// Public addresses: allocate, list, show, associate, disassociate, release,
    /// pool.
    #[command(subcommand, arg_required_else_help = true)]
    Address(address::Address),
    /// Load balancers: create, list, show, drain, undrain, delete.
    #[command(subcommand, arg_required_else_help = true)]
    LoadBalancer(load_balancer::LoadBalancer),
    ExplainPath(network::ExplainPath),
    /// Who owns what, and how much: create, list, show, quota, delete.
    #[command(subcommand, arg_required_else_help = true)]
    Project(project::Project),
    /// People and programs: create, list, show, role, delete.
    #[command(subcommand, arg_required_else_help = true)]
    Principal(principal::Principal),
    /// Secrets to act with: create, list, delete.
    #[command(subcommand, arg_required_else_help = true)]
    AccessKey(principal::AccessKey),
    /// Who you are to the cloud, and what you may do.
    #[command(name = "whoami")]
    WhoAmI,
    /// Hosts: list, show, add, drain, uncordon, label.
    #[command(subcommand, arg_required_else_help = true)]
    Node(node::Node),
    /// The controllers: members, add, remove, promote, status, transfer-leader,
    /// backup, restore.
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(cluster::Cluster),
    /// Clouds that you use: list, use, show, add, remove.
    #[command(subcommand, arg_required_else_help = true)]
    Context(context::Context),
    Completion(shell::Completion),
    Man(shell::Man),
    Doctor(doctor::Doctor),
    Join(join::Join),
    #[command(hide = true)]
    Tunnel(ssh::Tunnel),
}

/// Seconds, up to a day: a larger number is a typing error.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("seconds, 1 to 86400".to_owned()),
    }
}

/// One `key=value` label; the controllers check both halves.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label has the form KEY=VALUE".to_owned()),
    }
}

fn parse_request_id(text: &str) -> Result<String, String> {
    uuid::Uuid::parse_str(text)
        .map(|id| id.to_string())
        .map_err(|_| "16 bytes as a UUID or 32 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod test {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_pages_are_golden() {
        let mut root = Cli::command().term_width(80);
        root.build();
        crate::golden::check("help", &root.render_long_help().to_string());
        for command in root.get_subcommands_mut() {
            let name = format!("help_{}", command.get_name());
            crate::golden::check(&name, &command.render_long_help().to_string());
            for verb in command.get_subcommands_mut() {
                let name = format!("{name}_{}", verb.get_name());
                crate::golden::check(&name, &verb.render_long_help().to_string());
            }
        }
    }

    #[test]
    fn arguments_of_limited_form_are_checked() {
        assert!(parse_seconds("0").is_err());
        assert!(parse_seconds("60").is_ok());
        assert!(parse_seconds("1e9").is_err());
        assert_eq!(parse_label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(parse_label("=b").is_err());
        assert!(parse_request_id("../x").is_err());
        assert_eq!(security_group::parse_ports("80"), Ok((80, 80)));
        assert_eq!(security_group::parse_ports("80-90"), Ok((80, 90)));
        for bad in ["", "0", "65536", "80-", "-80", "80-90-100", "http", "80 90"] {
            assert!(security_group::parse_ports(bad).is_err(), "{bad}");
        }
        let listener = load_balancer::parse_listener("tcp:80:8080");
        assert_eq!(listener, Ok(("tcp".into(), 80, 8080)));
        for bad in [
            "tcp",
            "80",
            "icmp:80",
            "tcp:0",
            "tcp:80:x",
            "tcp:80:81:82",
            "tcp:",
        ] {
            assert!(load_balancer::parse_listener(bad).is_err(), "{bad}");
        }
        assert!(parse_request_id("00112233445566778899aabbccddeeff").is_ok());
    }

    #[test]
    fn everyday_lines_parse() {
        for line in [
            "cloudctl ls -o json",
            "cloudctl rm web db --wait",
            "cloudctl launch micro --name web --ssh-key a --ssh-key b --label team=x --wait none",
            "cloudctl ssh web -l root -- uname -a",
            "cloudctl logs web -f --raw",
            "cloudctl console web --linger 5",
            "cloudctl scp -r ./dir web:/tmp/",
            "cloudctl bill --by day -o csv",
            "cloudctl bill explain i-00/2026-11-22/v1",
            "cloudctl up --nodes 3 --dir /tmp/x",
            "cloudctl down --purge --yes",
            "cloudctl launch micro --dry-run --project web",
            "cloudctl launch micro --if-revision 1042",
            "cloudctl launch micro --on-host-failure replace --dry-run",
            "cloudctl --context work project quota web --images unlimited",
            "cloudctl access-key create --role member --ttl 90d --save x",
            "cloudctl principal role alice none --cell",
            "cloudctl node label node-1 disk=ssd old-",
            "cloudctl watch instance ssh_key --after 7 -o json",
            "cloudctl events web -n 5 -f",
            "cloudctl cluster transfer-leader 2",
            "cloudctl cluster backup cell.nube --force",
            "cloudctl cluster restore cell.nube --secret cluster.secret --replace",
            "cloudctl doctor --host -o json",
            "cloudctl cluster add spare",
            "cloudctl cluster remove 1",
            "cloudctl node add host-9",
            "cloudctl join --token t --controller a:1 --controller b:1 --dir d",
            "cloudctl join --token t --controller a:1 --address c:1 --listen 0.0.0.0:1 --dir d",
            "cloudctl network create lab --cidr 10.1.0.0/24 --isolated",
            "cloudctl network map lab --svg -",
            "cloudctl subnet create back 10.1.1.0/24 --network lab",
            "cloudctl security-group add-rule web --ingress --protocol tcp --port 1-9 --from ::/0",
            "cloudctl security-group add-rule web --egress --protocol any --to web",
            "cloudctl security-group attach web front back",
            "cloudctl address associate 198.18.0.1 web --move",
            "cloudctl address pool add 198.18.0.0/24",
            "cloudctl load-balancer create f --listener tcp:80 --listener udp:53:5353 \
             --target-label app=web --address www --health-port 8080",
            "cloudctl explain-path internet web --port 80 --protocol tcp",
            "cloudctl launch micro --network lab --subnet back --ip 10.1.1.9 --security-group a",
        ] {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
