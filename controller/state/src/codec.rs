//! Every persistent form in one place: commands, outcomes, snapshots, store
//! keys, and the state hash. Records are CBOR with numbered fields
//! (RFC 8949 through minicbor): numbers are append-only, so an old snapshot is
//! read by a new version. Encoding is canonical: equal states, equal bytes.

mod hash;
mod rows;

use minicbor::{Decode, Encode};
use nube_billing::PriceBook;
use nube_types::TimestampMs;

use crate::command::Envelope;
use crate::outcome::Outcome;
use crate::state::{Cluster, Derived, State, default_project};
use crate::table::{Record, Table, is_default};

pub use hash::{copy_hash, replica_hash, state_hash};
pub use rows::{decode_rows, rows};

/// Version of everything in this file. A replica that meets a newer one stops.
pub const FORMAT: u8 = 1;

/// Store key of the singletons; no table has number 0.
pub const META_KEY: &[u8] = &[0];

/// The highest command number that this version knows.
pub const COMMAND_MAX: u64 = 48;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer version: this replica must not guess.
    #[error(
        "format {found} is not format {FORMAT}, the one that version {VERSION} reads: \
         run a newer version here"
    )]
    Format {
        /// What was found.
        found: u8,
    },
    /// Written by a newer version in the same format: this replica must not skip it.
    #[error(
        "{what} is not known to version {VERSION}: it was written by a newer one, run that here"
    )]
    Newer {
        /// What this version does not know.
        what: String,
    },
    /// Not what was expected there.
    #[error("malformed {what}: {cause}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
}

fn malformed(what: &'static str) -> impl Fn(minicbor::decode::Error) -> CodecError {
    move |cause| CodecError::Malformed {
        what,
        cause: cause.to_string(),
    }
}

fn versioned(value: &impl Encode<()>) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    minicbor::encode(value, &mut bytes).expect("encoding into memory has no way to fail");
    bytes
}

fn unversioned(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&found, _)) => Err(CodecError::Format { found }),
        None => Err(CodecError::Format { found: 0 }),
    }
}

/// Reads one value that must be all there is.
fn whole<'b, T: Decode<'b, ()>>(bytes: &'b [u8], what: &'static str) -> Result<T, CodecError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(malformed(what))?;
    if decoder.position() != bytes.len() {
        return Err(CodecError::Malformed {
            what,
            cause: "bytes are left over".to_owned(),
        });
    }
    Ok(value)
}

/// A log entry's bytes.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    versioned(envelope)
}

/// Reads a log entry. What would not be written the same way is refused: CBOR
/// readers skip fields that they do not know, and a replica that skips what the
/// others apply is no replica any more (A8).
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, CodecError> {
    let body = unversioned(bytes)?;
    let envelope = whole(body, "command").map_err(|error| match newer_command(body) {
        Some(number) => newer(format!(
            "command {number} (the newest here is {COMMAND_MAX})"
        )),
        None => error,
    })?;
    if encode_envelope(&envelope) != bytes {
        return Err(newer(
            "a field of a command, or the way in which it is written,",
        ));
    }
    Ok(envelope)
}

fn newer(what: impl Into<String>) -> CodecError {
    CodecError::Newer { what: what.into() }
}

/// The number of an envelope's command, if this version does not know it.
fn newer_command(body: &[u8]) -> Option<u64> {
    let mut decoder = minicbor::Decoder::new(body);
    decoder.array().ok()?;
    // Request, time, actor; then the command: its number and its fields.
    for _ in 0..3 {
        decoder.skip().ok()?;
    }
    decoder.array().ok()?;
    let number = decoder.u64().ok()?;
    (number > COMMAND_MAX).then_some(number)
}

/// An outcome's bytes, for the controller that forwarded the command.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    versioned(outcome)
}

/// Reads an outcome.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, CodecError> {
    whole(unversioned(bytes)?, "outcome")
}

/// The singletons.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Meta {
    #[n(0)]
    index: u64,
    #[n(1)]
    time: TimestampMs,
    #[n(2)]
    cluster: Option<Cluster>,
    #[n(3)]
    mac_count: u64,
    #[n(4)]
    prices: PriceBook,
    #[n(5)]
    placement_revision: Option<u64>,
    #[n(6)]
    network_number_max: Option<u32>,
    #[n(7)]
    events_forgotten: Option<u64>,
    /// How many of the tables behind those that every version writes are here: up
    /// to the last one with a row.
    #[cbor(n(10), skip_if = "is_default")]
    tables_more: u8,
}

/// Calls a macro with every table behind those that every version writes, in
/// their order, which is for ever.
macro_rules! with_later_tables {
    ($each:ident) => {
        $each!(
            evictions,
            subnets,
            security_groups,
            address_pools,
            addresses,
            load_balancers,
            target_health,
            traffic_counters,
            traffic_usage
        )
    };
}

/// A state that an older version could have made has that version's bytes.
fn tables_more(state: &State) -> u8 {
    macro_rules! lengths {
        ($($table:ident),*) => { [$(state.$table.len()),*] };
    }
    let lengths = with_later_tables!(lengths);
    let last = (1..).zip(lengths).filter(|(_, length)| *length > 0).last();
    last.map_or(0, |(position, _)| position)
}

impl Meta {
    fn of(state: &State) -> Self {
        Self {
            index: state.index,
            time: state.time,
            cluster: state.cluster,
            mac_count: state.mac_count,
            prices: state.prices.clone(),
            placement_revision: Some(state.placement_revision),
            network_number_max: Some(state.network_number_max),
            events_forgotten: Some(state.events_forgotten),
            tables_more: tables_more(state),
        }
    }

    /// These singletons over the tables of another state.
    fn over(self, tables: State) -> State {
        State {
            index: self.index,
            time: self.time,
            cluster: self.cluster,
            mac_count: self.mac_count,
            prices: self.prices,
            placement_revision: self.placement_revision.unwrap_or(self.index),
            // Before the first counter there was one network.
            network_number_max: self.network_number_max.unwrap_or(1),
            events_forgotten: self.events_forgotten.unwrap_or(0),
            ..tables
        }
    }
}

/// The singletons' bytes, stored under [`META_KEY`] in the same batch as the
/// changes they go with.
#[must_use]
pub fn encode_meta(state: &State) -> Vec<u8> {
    versioned(&Meta::of(state))
}

/// The whole state as canonical bytes.
#[must_use]
pub fn encode_snapshot(state: &State) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    let mut encoder = minicbor::Encoder::new(&mut bytes);
    encoder
        .encode(Meta::of(state))
        .expect("encoding into memory has no way to fail");
    encode_table(&mut encoder, &state.ssh_keys);
    encode_table(&mut encoder, &state.images);
    encode_table(&mut encoder, &state.instance_types);
    encode_table(&mut encoder, &state.networks);
    encode_table(&mut encoder, &state.released);
    encode_table(&mut encoder, &state.requests);
    encode_table(&mut encoder, &state.nodes);
    encode_table(&mut encoder, &state.instances);
    encode_table(&mut encoder, &state.usage);
    encode_table(&mut encoder, &state.transitions);
    encode_table(&mut encoder, &state.projects);
    encode_table(&mut encoder, &state.principals);
    encode_table(&mut encoder, &state.access_keys);
    encode_table(&mut encoder, &state.events);
    encode_table(&mut encoder, &state.placements);
    encode_table(&mut encoder, &state.join_tokens);
    encode_table(&mut encoder, &state.members);
    let mut left = tables_more(state);
    macro_rules! encode_later {
        ($($table:ident),*) => {
            $(if left > 0 {
                encode_table(&mut encoder, &state.$table);
                left -= 1;
            })*
        };
    }
    with_later_tables!(encode_later);
    debug_assert_eq!(left, 0, "each later table is in the list");
    bytes
}

fn encode_table<R: Record>(encoder: &mut minicbor::Encoder<&mut Vec<u8>>, table: &Table<R>) {
    const WHY: &str = "encoding into memory has no way to fail";
    encoder.array(table.len() as u64).expect(WHY);
    for record in table.iter() {
        encoder.encode(record).expect(WHY);
    }
}

/// Reads a whole state.
pub fn decode_snapshot(bytes: &[u8]) -> Result<State, CodecError> {
    let mut decoder = minicbor::Decoder::new(unversioned(bytes)?);
    let wrong = malformed("snapshot");
    let meta: Meta = as_written(&mut decoder, &wrong, "a singleton of a snapshot")?;
    // A version before tenants wrote the first ten tables only.
    let before_tenants = meta.network_number_max.is_none();
    let tables_more = meta.tables_more;
    let mut state = meta.over(State::default());
    decode_table(&mut decoder, &mut state.ssh_keys)?;
    decode_table(&mut decoder, &mut state.images)?;
    decode_table(&mut decoder, &mut state.instance_types)?;
    decode_table(&mut decoder, &mut state.networks)?;
    decode_table(&mut decoder, &mut state.released)?;
    decode_table(&mut decoder, &mut state.requests)?;
    decode_table(&mut decoder, &mut state.nodes)?;
    decode_table(&mut decoder, &mut state.instances)?;
    decode_table(&mut decoder, &mut state.usage)?;
    decode_table(&mut decoder, &mut state.transitions)?;
    if !before_tenants {
        decode_table(&mut decoder, &mut state.projects)?;
        decode_table(&mut decoder, &mut state.principals)?;
        decode_table(&mut decoder, &mut state.access_keys)?;
        decode_table(&mut decoder, &mut state.events)?;
        decode_table(&mut decoder, &mut state.placements)?;
        decode_table(&mut decoder, &mut state.join_tokens)?;
        decode_table(&mut decoder, &mut state.members)?;
    }
    decode_later_tables(&mut decoder, &mut state, tables_more)?;
    if decoder.position() + 1 != bytes.len() {
        return Err(newer("what comes after the last table of a snapshot"));
    }
    finish(&mut state);
    Ok(state)
}

fn decode_later_tables(
    decoder: &mut minicbor::Decoder<'_>,
    state: &mut State,
    count: u8,
) -> Result<(), CodecError> {
    let mut left = count;
    macro_rules! decode_later {
        ($($table:ident),*) => {
            $(if left > 0 {
                decode_table(decoder, &mut state.$table)?;
                left -= 1;
            })*
        };
    }
    with_later_tables!(decode_later);
    if left > 0 {
        return Err(newer("a table of a snapshot"));
    }
    // The last of them has a row, or there would be two forms of one state.
    if tables_more(state) != count {
        return Err(CodecError::Malformed {
            what: "snapshot",
            cause: "empty tables at its end".to_owned(),
        });
    }
    Ok(())
}

/// Reads one value that this version would write in the same way. An older version's
/// value is one: its fields are here, and those it lacks stay absent. A newer one's has
/// fields that a CBOR reader skips; a replica that forgets them differs from the others.
fn as_written<'b, T: Encode<()> + Decode<'b, ()>>(
    decoder: &mut minicbor::Decoder<'b>,
    wrong: &impl Fn(minicbor::decode::Error) -> CodecError,
    what: &'static str,
) -> Result<T, CodecError> {
    let begin = decoder.position();
    let value: T = decoder.decode().map_err(wrong)?;
    let written = minicbor::to_vec(&value).expect("encoding into memory has no way to fail");
    if decoder.input().get(begin..decoder.position()) != Some(written.as_slice()) {
        return Err(newer(what));
    }
    Ok(value)
}

fn decode_table<R: Record>(
    decoder: &mut minicbor::Decoder<'_>,
    table: &mut Table<R>,
) -> Result<(), CodecError> {
    let wrong = malformed("snapshot table");
    let count = decoder.array().map_err(&wrong)?.unwrap_or(0);
    let mut last: Option<R::Key> = None;
    for _ in 0..count {
        let record: R = as_written(decoder, &wrong, "a field of a record in a snapshot")?;
        let key = record.key();
        if last.is_some_and(|last| last >= key) {
            let cause = "records are not in key order".to_owned();
            return Err(CodecError::Malformed {
                what: "snapshot table",
                cause,
            });
        }
        last = Some(key);
        table.put(record);
    }
    Ok(())
}

/// What was read is in the store already: nothing has changed.
fn finish(state: &mut State) {
    // Written before there were projects: the default one was implied.
    if let Some(cluster) = state.cluster
        && state.projects.get(&cluster.default_project).is_none()
    {
        let id = cluster.default_project;
        state
            .projects
            .put(default_project(id, cluster.created_at, 0));
    }
    state.take_changes();
    state.derived = Derived::rebuild(state);
}
