//! `type list`: sizes with their prices beside them.

use nube_proto::v1::instance_type_service_client::InstanceTypeServiceClient;
use nube_proto::v1::{InstanceType, ListInstanceTypesRequest};

use super::App;
use crate::error::Result;
use crate::output::table::{Look, Table};
use crate::output::text::{mib, money};

/// `type list`.
pub async fn list(app: &App) -> Result<()> {
    let client = app.client()?;
    let list = |channel| async move {
        InstanceTypeServiceClient::new(channel)
            .list_instance_types(ListInstanceTypesRequest {})
            .await
    };
    let answer = client.call("list types", list).await?;
    app.output
        .message(&answer, |look| table(look, &answer.instance_types))
}

fn table(look: Look, types: &[InstanceType]) -> String {
    let header = [
        "NAME",
        ">VCPUS",
        ">MEMORY",
        ">DISK",
        ">PRICE/HOUR",
        ">PRICE/MONTH",
        "CURRENCY",
    ];
    let mut table = Table::new(look, &header);
    for size in types {
        table.row([
            size.name.as_str().into(),
            size.vcpus.to_string().into(),
            mib(size.memory_mib).into(),
            mib(size.disk_mib).into(),
            money(size.price_nanos_per_hour, 4).into(),
            money(size.price_nanos_per_month, 2).into(),
            size.currency.as_str().into(),
        ]);
    }
    table.render_or("no instance types")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn prices_stand_beside_sizes() {
        let size = |name: &str, vcpus: u32, hour: i64| InstanceType {
            name: name.into(),
            vcpus,
            memory_mib: u64::from(vcpus) * 256,
            disk_mib: 1024,
            price_nanos_per_hour: hour,
            price_nanos_per_month: hour * 730,
            currency: "USD".into(),
        };
        let types = [
            size("n1.micro", 1, 2_000_000),
            size("n1.large", 8, 61_500_000),
        ];
        crate::golden::check("type_list", &table(Look::default(), &types));
    }
}
