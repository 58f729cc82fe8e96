//! A controller's channel with what every call carries: who calls (an access
//! key, unless the certificate says it) and for which project.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::config::Secret;
use crate::error::{Error, Result};

/// What generated clients are made of.
pub type Link = InterceptedService<Channel, Stamp>;

/// Metadata of every call.
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    authorization: Option<MetadataValue<Ascii>>,
    project: Option<MetadataValue<Ascii>>,
}

impl Stamp {
    /// Checks both once, so that no call can fail on them.
    pub fn new(token: Option<&Secret>, project: Option<&str>) -> Result<Self> {
        let mut stamp = Self::default();
        if let Some(token) = token {
            let value = MetadataValue::try_from(format!("Bearer {}", token.0));
            let mut value = value.map_err(|_| Error::failed("the access key is malformed"))?;
            value.set_sensitive(true);
            stamp.authorization = Some(value);
        }
        if let Some(project) = project {
            let value = MetadataValue::try_from(project)
                .ok()
                .filter(|_| project.len() <= 63 && project.chars().all(|c| c.is_ascii_graphic()));
            let rule = "--project: a project's name or id";
            stamp.project = Some(value.ok_or_else(|| Error::usage(rule))?);
        }
        Ok(stamp)
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(value) = &self.authorization {
            metadata.insert("authorization", value.clone());
        }
        if let Some(value) = &self.project {
            metadata.insert("x-nube-project", value.clone());
        }
        Ok(request)
    }
}
