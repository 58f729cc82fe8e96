pub async fn run(_: &super::App, _: crate::args::cloud::Up) -> crate::error::Result<()> { Ok(()) }
pub async fn down(_: &super::App, _: &crate::args::cloud::Down) -> crate::error::Result<()> { Ok(()) }
