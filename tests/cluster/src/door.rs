//! A way in under an identity of one's choice: a certificate, an access key,
//! both or neither.

use std::fs;
use std::path::Path;

use anyhow::Context;
use nube_harness::Cloud;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// In every controller's certificate.
const SERVER_NAME: &str = "controller.nube.internal";

/// What proves who calls, and which project is meant.
#[derive(Clone, Default)]
pub struct Door {
    endpoints: Vec<String>,
    ca: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    token: Option<String>,
    project: Option<String>,
}

impl Door {
    /// Knows the controllers and their CA, and proves nothing.
    pub fn stranger(cloud: &Cloud) -> anyhow::Result<Self> {
        let text = fs::read_to_string(cloud.dir().join("client.toml"))?;
        let file: toml::Table = text.parse()?;
        let endpoints = file.get("endpoints").and_then(toml::Value::as_array);
        let endpoints = endpoints.context("endpoints")?.iter();
        Ok(Self {
            endpoints: endpoints
                .filter_map(|endpoint| Some(endpoint.as_str()?.to_owned()))
                .collect(),
            ca: fs::read(cloud.dir().join("pki/ca.pem"))?,
            ..Self::default()
        })
    }

    /// The owner of a cell whose operator's files lie in `pki` of a directory.
    pub fn at(endpoints: Vec<String>, cell: &Path) -> anyhow::Result<Self> {
        let knows = Self {
            endpoints,
            ca: fs::read(cell.join("pki/ca.pem"))?,
            ..Self::default()
        };
        knows.with_files(&cell.join("pki/operator"))
    }

    /// The certificate that `up` made for whoever owns the cell.
    pub fn operator(cloud: &Cloud) -> anyhow::Result<Self> {
        Self::stranger(cloud)?.with_files(&cloud.dir().join("pki/operator"))
    }

    /// With `PATH.pem` and `PATH.key`.
    pub fn with_files(self, path: &Path) -> anyhow::Result<Self> {
        let read = |end: &str| {
            let path = path.with_extension(end);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        Ok(self.with_certificate(read("pem")?, read("key")?))
    }

    /// With a certificate of one's own.
    #[must_use]
    pub fn with_certificate(mut self, certificate: Vec<u8>, key: Vec<u8>) -> Self {
        self.identity = Some((certificate, key));
        self
    }

    /// With an access key's token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// About a project.
    #[must_use]
    pub fn in_project(mut self, project: &str) -> Self {
        self.project = Some(project.to_owned());
        self
    }

    /// How many controllers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.endpoints.len()
    }

    /// A connection to one of the controllers.
    pub async fn connect(&self, number: usize) -> anyhow::Result<Channel> {
        let patience = std::time::Duration::from_secs(5);
        let endpoint = self.endpoint(number)?.connect_timeout(patience);
        Ok(endpoint.connect().await?)
    }

    /// The same, made at the first call and made again when it breaks.
    pub fn connect_lazy(&self, number: usize) -> anyhow::Result<Channel> {
        let patience = std::time::Duration::from_secs(1);
        let endpoint = self.endpoint(number)?.connect_timeout(patience);
        Ok(endpoint.connect_lazy())
    }

    fn endpoint(&self, number: usize) -> anyhow::Result<Endpoint> {
        let mut tls = ClientTlsConfig::new()
            .domain_name(SERVER_NAME)
            .ca_certificate(Certificate::from_pem(&self.ca));
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let address = &self.endpoints[number % self.endpoints.len()];
        Ok(Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?)
    }

    /// A request that carries token and project.
    pub fn request<T>(&self, message: T) -> anyhow::Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        self.sign(request.metadata_mut())?;
        Ok(request)
    }

    /// Adds token and project.
    pub fn sign(&self, metadata: &mut MetadataMap) -> anyhow::Result<()> {
        if let Some(token) = &self.token {
            let value = MetadataValue::try_from(format!("Bearer {token}"))?;
            metadata.insert("authorization", value);
        }
        if let Some(project) = &self.project {
            metadata.insert("x-nube-project", MetadataValue::try_from(project.as_str())?);
        }
        Ok(())
    }
}
