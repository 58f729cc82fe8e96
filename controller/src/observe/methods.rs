//! The methods of the contract, read from its descriptors: only their names
//! become labels, whatever path a client sends.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// One method.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`.
    pub name: &'static str,
    /// Its request carries a request id: it may change something.
    pub mutation: bool,
    /// Carries another controller's mutation.
    pub forwards: bool,
}

/// Served beside the contract.
const LIBRARY: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];
const FORWARDS: &str = "nube.peer.v1.PeerService/Propose";
static OTHER: Method = Method {
    name: "other",
    mutation: false,
    forwards: false,
};

/// The method of a path; all unknown ones are one.
pub fn of(path: &str) -> &'static Method {
    static METHODS: LazyLock<BTreeMap<&'static str, Method>> = LazyLock::new(read);
    let name = path.strip_prefix('/').unwrap_or(path);
    METHODS.get(name).unwrap_or(&OTHER)
}

fn read() -> BTreeMap<&'static str, Method> {
    let set = FileDescriptorSet::decode(nube_proto::DESCRIPTORS)
        .expect("the descriptors are compiled in, and a test reads them");
    let mutations: Vec<String> = set.file.iter().flat_map(with_request_id).collect();
    let mut methods = BTreeMap::new();
    let mut put = |name: &'static str, mutation| {
        let forwards = name == FORWARDS;
        methods.insert(
            name,
            Method {
                name,
                mutation,
                forwards,
            },
        );
    };
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let mutation = mutations
                    .iter()
                    .any(|message| message == method.input_type());
                // Once per process.
                put(name.leak(), mutation);
            }
        }
    }
    LIBRARY.into_iter().for_each(|name| put(name, false));
    methods
}

/// Full names of the messages that name a mutation.
fn with_request_id(file: &FileDescriptorProto) -> Vec<String> {
    let names = file.message_type.iter().filter(|message| {
        let mut fields = message.field.iter();
        fields.any(|field| field.name() == "request_id")
    });
    names
        .map(|message| format!(".{}.{}", file.package(), message.name()))
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn mutations_are_known_by_their_request_id() {
        let launch = of("/nube.v1.InstanceService/LaunchInstances");
        assert!(launch.mutation && !launch.forwards);
        assert_eq!(launch.name, "nube.v1.InstanceService/LaunchInstances");
        assert!(!of("/nube.v1.InstanceService/ListInstances").mutation);
        assert!(of("/nube.peer.v1.PeerService/Propose").forwards);
        assert_eq!(of("/grpc.health.v1.Health/Check").name, LIBRARY[0]);
        for path in [
            "",
            "/",
            "/nube.v1.InstanceService/Nonsense",
            "nonsense\u{1b}",
        ] {
            assert_eq!(of(path), &OTHER, "{path}");
        }
    }
}
