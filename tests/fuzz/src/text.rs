//! Texts that people write: config files, join tokens, public keys.

use std::path::Path;

use nube_agent::config as agent;
use nube_controller::api::join::token;
use nube_controller::api::ssh_key as keys;
use nube_controller::config as controller;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The config files of controllers, agents and clients.
pub fn config(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(config) = controller::Config::parse(&text, Path::new("/etc/nube")) {
        assert!(config.members.iter().any(|member| member.id == config.id));
        assert!(config.cluster_id_bytes().is_ok());
    }
    if let Ok(config) = agent::Config::parse(&text, Path::new("/etc/nube/agent.toml")) {
        assert!(
            config
                .controllers
                .iter()
                .all(|text| agent::is_address(text))
        );
    }
    nube_cli::probe::client_files(&text);
}

/// A join token as a newcomer presents it.
pub fn join_token(bytes: &[u8]) {
    const FINGERPRINT: &str = "abababababababababababababababababababababababababababababababab";
    let text = text(bytes);
    if token::hash_of(&text, FINGERPRINT).is_some() {
        assert!(text.contains(FINGERPRINT), "a token of another cluster");
        // One secret, one text: a second one would not be burnt with the first.
        let secret = text.rsplit('.').next().unwrap_or_default();
        assert_eq!(secret.len(), 43, "{secret}");
    }
    let _ = token::hash_of(&text, "");
}

/// An OpenSSH public key as a user imports it.
pub fn ssh_key(bytes: &[u8]) {
    let Ok(key) = keys::parse(&text(bytes)) else {
        return;
    };
    // What is kept reaches guests' `authorized_keys`: one line, no options.
    let Ok(line) = key.to_openssh() else {
        return;
    };
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let first = line.split(' ').next().unwrap_or_default();
    assert_eq!(first, key.algorithm().as_str(), "{line:?}");
    let again = keys::parse(&line).expect("what is kept is a key");
    assert_eq!(again.key_data(), key.key_data());
}
