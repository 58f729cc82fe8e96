//! `address allocate`, `list`, `show`, `associate`, `disassociate`, `release`,
//! `pool`.

use nube_proto::v1::address_service_client::AddressServiceClient;
use nube_proto::v1::{
    AddAddressPoolRequest, Address, AddressPool, AllocateAddressRequest, AssociateAddressRequest,
    DisassociateAddressRequest, GetAddressRequest, ListAddressPoolsRequest, ListAddressesRequest,
    ReleaseAddressRequest, RemoveAddressPoolRequest,
};

use super::App;
use crate::args::address::{Address as Verb, Pool};
use crate::client::Client;
use crate::error::Result;
use crate::output::table::{Fields, Look, Table};
use crate::output::text::{escape, money, or_dash, time};

/// `address …`.
pub async fn run(app: &App, verb: Verb) -> Result<()> {
    app.output.refuse_csv()?;
    let client = app.client()?;
    let request_id = client.request_id();
    let held = match verb {
        Verb::Allocate { name } => {
            let name = name.unwrap_or_default();
            let request = AllocateAddressRequest { request_id, name };
            call!(
                client,
                "allocate address",
                AddressServiceClient.allocate_address(request)
            )?
        }
        Verb::List => {
            let request = ListAddressesRequest::default();
            let all = pages!(client, "list addresses", AddressServiceClient.list_addresses(request) -> addresses);
            return app.output.message(&all, |look| table(look, &all.addresses));
        }
        Verb::Show { address } => {
            let request = GetAddressRequest { address };
            call!(
                client,
                "show address",
                AddressServiceClient.get_address(request)
            )?
        }
        Verb::Associate {
            address,
            instance,
            take,
        } => {
            let request = AssociateAddressRequest {
                request_id,
                address,
                instance,
                r#move: take,
            };
            call!(
                client,
                "associate address",
                AddressServiceClient.associate_address(request)
            )?
        }
        Verb::Disassociate { address } => {
            let request = DisassociateAddressRequest {
                request_id,
                address,
            };
            call!(
                client,
                "disassociate address",
                AddressServiceClient.disassociate_address(request)
            )?
        }
        Verb::Release { address } => return release(app, &client, address).await,
        Verb::Pool(verb) => return pool(app, &client, verb).await,
    };
    app.output.message(&held, |_| details(&held))
}

async fn release(app: &App, client: &Client, address: String) -> Result<()> {
    let say = format!("released {}; its billing has ended\n", escape(&address));
    let request = ReleaseAddressRequest {
        request_id: client.request_id(),
        address,
    };
    let done = call!(
        client,
        "release address",
        AddressServiceClient.release_address(request)
    )?;
    app.output.message(&done, |_| say)
}

async fn pool(app: &App, client: &Client, verb: Pool) -> Result<()> {
    match verb {
        Pool::Add { cidr } => {
            let added = add_pool(client, cidr).await?;
            let pools = std::slice::from_ref(&added);
            app.output.message(&added, |look| pool_table(look, pools))
        }
        Pool::List => {
            let request = ListAddressPoolsRequest {};
            let all = call!(
                client,
                "list address pools",
                AddressServiceClient.list_address_pools(request)
            )?;
            app.output
                .message(&all, |look| pool_table(look, &all.pools))
        }
        Pool::Remove { cidr } => {
            let say = format!("removed address pool {}\n", escape(&cidr));
            let request = RemoveAddressPoolRequest {
                request_id: client.request_id(),
                cidr,
            };
            let done = call!(
                client,
                "remove address pool",
                AddressServiceClient.remove_address_pool(request)
            )?;
            app.output.message(&done, |_| say)
        }
    }
}

/// Gives the cell a range; repeating it is harmless.
pub async fn add_pool(client: &Client, cidr: String) -> Result<AddressPool> {
    let request = AddAddressPoolRequest {
        request_id: client.request_id(),
        cidr,
    };
    call!(
        client,
        "add address pool",
        AddressServiceClient.add_address_pool(request)
    )
}

fn table(look: Look, addresses: &[Address]) -> String {
    let header = ["NAME", "ADDRESS", "TARGET", ">PRICE/H", "ID", "+CREATED"];
    let mut table = Table::new(look, &header);
    for held in addresses {
        table.row([
            held.name.as_str().into(),
            held.address.as_str().into(),
            or_dash(&held.target_name).into(),
            money(held.price_nanos_per_hour, 4).into(),
            held.id.as_str().into(),
            time(held.created_at_ms).into(),
        ]);
    }
    table.render_or("no addresses; `cloudctl address allocate NAME` takes one")
}

fn details(held: &Address) -> String {
    let mut fields = Fields::default();
    fields.add("name", &held.name);
    fields.add("address", &held.address);
    fields.add("id", &held.id);
    let kind = match held.load_balancer_id.as_str() {
        "" => "instance",
        _ => "load balancer",
    };
    let target = match held.target_name.as_str() {
        "" => "nothing".to_owned(),
        name => format!("{kind} {name}"),
    };
    fields.add("target", target);
    let price = money(held.price_nanos_per_hour, 4);
    fields.add(
        "price",
        format!("{price} {} per hour until it is released", held.currency),
    );
    fields.add("created", time(held.created_at_ms));
    fields.render()
}

fn pool_table(look: Look, pools: &[AddressPool]) -> String {
    let mut table = Table::new(look, &["RANGE", ">ADDRESSES", ">HELD"]);
    for pool in pools {
        table.row([
            pool.cidr.as_str().into(),
            pool.addresses_total.to_string().into(),
            pool.addresses_held.to_string().into(),
        ]);
    }
    table.render_or("no ranges; `cloudctl address pool add RANGE` gives the cell one")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn addresses_are_golden() {
        let held = Address {
            id: "addr-0000000000000007".into(),
            address: "198.18.7.5".into(),
            name: "www".into(),
            instance_id: "i-0000000000000001".into(),
            target_name: "web".into(),
            price_nanos_per_hour: 5_000_000,
            currency: "EUR".into(),
            created_at_ms: 1_790_000_000_000,
            ..Address::default()
        };
        let pool = AddressPool {
            cidr: "198.18.7.0/24".into(),
            addresses_total: 256,
            addresses_held: 1,
            revision: 1,
        };
        let look = Look::default();
        let text = [
            table(look, std::slice::from_ref(&held)),
            details(&held),
            pool_table(look, &[pool]),
        ];
        crate::golden::check_narrow("address", &text.join("\n"));
    }
}
