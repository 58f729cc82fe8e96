//! Hand-made histories, good and bad, for each model of the linearizability judge.

use nube_history::model::{cas, counter, register, set};
use nube_history::{Event, Model, Violation, check};

type Register = register::Register<&'static str, u64>;

fn judge<M: Model>(model: &M, events: &[Event<M::Op, M::Outcome>]) -> Result<(), Violation> {
    check::linear(model, events)
}

fn write(
    client: u64,
    value: u64,
    from: u64,
    to: u64,
) -> Event<register::Op<&'static str, u64>, register::Outcome<u64>> {
    let op = register::Op::Write("x", Some(value));
    Event::done(client, op, from, to, register::Outcome::Done)
}

fn lost(
    client: u64,
    value: u64,
    from: u64,
) -> Event<register::Op<&'static str, u64>, register::Outcome<u64>> {
    Event::unknown(client, register::Op::Write("x", Some(value)), from)
}

fn read(
    client: u64,
    value: Option<u64>,
    from: u64,
    to: u64,
) -> Event<register::Op<&'static str, u64>, register::Outcome<u64>> {
    Event::done(
        client,
        register::Op::Read("x"),
        from,
        to,
        register::Outcome::Value(value),
    )
}

#[test]
fn good_registers() {
    let good: &[(&str, Vec<_>)] = &[
        ("nothing", vec![]),
        (
            "one after another",
            vec![write(1, 1, 0, 1), read(1, Some(1), 2, 3)],
        ),
        (
            "a read beside a write sees old or new",
            vec![
                write(1, 1, 0, 10),
                read(2, None, 1, 2),
                read(2, Some(1), 3, 4),
            ],
        ),
        (
            "writes beside each other in either order",
            vec![
                write(1, 1, 0, 10),
                write(2, 2, 0, 10),
                read(3, Some(1), 11, 12),
            ],
        ),
        (
            "equal times are concurrent",
            vec![write(1, 1, 0, 5), read(2, None, 5, 6)],
        ),
        (
            "a lost write happens late",
            vec![
                lost(1, 7, 0),
                read(2, None, 1, 2),
                write(2, 3, 3, 4),
                read(2, Some(7), 50, 51),
            ],
        ),
        (
            "a lost write never happens",
            vec![lost(1, 7, 0), read(2, None, 1, 2), read(2, None, 90, 91)],
        ),
        (
            "equal lost writes happen twice",
            vec![
                lost(1, 7, 0),
                lost(2, 7, 0),
                read(3, Some(7), 1, 2),
                write(3, 1, 3, 4),
                read(3, Some(7), 5, 6),
            ],
        ),
        (
            "unsorted recording",
            vec![read(1, Some(1), 2, 3), write(1, 1, 0, 1)],
        ),
    ];
    for (name, events) in good {
        assert_eq!(judge(&Register::new(), events), Ok(()), "{name}");
    }
}

#[test]
fn bad_registers() {
    let bad: &[(&str, u64, Vec<_>)] = &[
        (
            "a stale read",
            5,
            vec![write(1, 1, 0, 1), write(1, 2, 2, 3), read(2, Some(1), 4, 5)],
        ),
        (
            "a value never written",
            3,
            vec![write(1, 1, 0, 1), read(2, Some(9), 2, 3)],
        ),
        (
            "a value from the future",
            2,
            vec![read(2, Some(1), 1, 2), write(1, 1, 3, 4)],
        ),
        (
            "a lost write, acknowledged",
            3,
            vec![write(1, 1, 0, 1), read(2, None, 2, 3)],
        ),
        (
            "new, then old, beside the write",
            6,
            vec![
                write(1, 1, 0, 10),
                read(2, Some(1), 1, 2),
                read(3, None, 3, 6),
            ],
        ),
        (
            "two readers in two orders",
            16,
            vec![
                write(1, 1, 0, 10),
                write(2, 2, 0, 10),
                read(3, Some(1), 11, 12),
                read(4, Some(2), 13, 16),
            ],
        ),
        (
            "a lost write that happens twice",
            8,
            vec![
                lost(1, 7, 0),
                read(2, Some(7), 1, 2),
                write(2, 1, 3, 4),
                read(2, Some(1), 5, 6),
                read(2, Some(7), 7, 8),
            ],
        ),
        (
            "a lost write seen before it was asked",
            2,
            vec![read(2, Some(7), 1, 2), lost(1, 7, 3)],
        ),
    ];
    for (name, at, events) in bad {
        let violation = judge(&Register::new(), events).expect_err(name);
        assert_eq!(violation.at, *at, "{name}: {violation}");
    }
}

#[test]
fn keys_are_judged_apart_and_the_first_bad_answer_is_named() {
    let on = |key, value, from, to| {
        Event::done(
            1,
            register::Op::Read(key),
            from,
            to,
            register::Outcome::Value(Some(value)),
        )
    };
    let violation = judge(
        &Register::new(),
        &[on("b", 1, 0, 9), on("a", 2, 3, 4), write(1, 1, 0, 1)],
    )
    .expect_err("both are bad");
    assert_eq!((violation.key.as_str(), violation.at), ("\"a\"", 4));
}

#[test]
fn a_violation_names_only_what_is_needed_to_see_it() {
    let mut events = Vec::new();
    for round in 0..200 {
        events.push(write(1, round, round * 10, round * 10 + 3));
        events.push(read(2, Some(round), round * 10 + 4, round * 10 + 5));
    }
    // Long after 150 was written over.
    events.push(read(3, Some(150), 1905, 1907));
    events.push(write(4, 1000, 5000, 5001));
    let violation = judge(&Register::new(), &events).expect_err("150 is stale");
    assert_eq!(violation.at, 1907);
    assert_eq!(
        violation.prefix_len,
        2 * 191 + 1,
        "what came later is no part of it"
    );
    assert!(violation.operations.len() <= 3, "{violation}");
    assert!(
        violation
            .operations
            .last()
            .is_some_and(|line| line.contains("client 3") && line.contains("Some(150)")),
        "{violation}"
    );
    assert!(
        violation.to_string().contains("possible before"),
        "{violation}"
    );
}

type Cas = cas::Cas<&'static str, u64>;
type CasEvent = Event<cas::Op<&'static str, u64>, cas::Outcome<u64>>;

fn see(value: Option<u64>, revision: u64, from: u64, to: u64) -> CasEvent {
    Event::done(
        1,
        cas::Op::Read("x"),
        from,
        to,
        cas::Outcome::Value(value, revision),
    )
}

fn put(value: u64, revision: u64, from: u64, to: u64) -> CasEvent {
    Event::done(
        2,
        cas::Op::Write("x", Some(value)),
        from,
        to,
        cas::Outcome::Written(revision),
    )
}

fn put_if(expected: u64, value: u64, outcome: cas::Outcome<u64>, from: u64, to: u64) -> CasEvent {
    Event::done(
        3,
        cas::Op::WriteIf("x", expected, Some(value)),
        from,
        to,
        outcome,
    )
}

#[test]
fn compare_and_set_with_revisions() {
    use cas::Outcome::{Conflict, Written};
    let lost_put = |value, from| Event::unknown(4, cas::Op::Write("x", Some(value)), from);
    let lost_put_if = |expected, value, from| {
        Event::unknown(4, cas::Op::WriteIf("x", expected, Some(value)), from)
    };
    let good: &[(&str, Vec<CasEvent>)] = &[
        (
            "revisions jump",
            vec![
                put(1, 7, 0, 1),
                put_if(7, 2, Written(12), 2, 3),
                see(Some(2), 12, 4, 5),
            ],
        ),
        (
            "one of two wins",
            vec![
                put(1, 7, 0, 1),
                put_if(7, 2, Written(9), 2, 9),
                put_if(7, 3, Conflict, 2, 9),
                see(Some(2), 9, 10, 11),
            ],
        ),
        (
            "a lost write caused the conflict",
            vec![
                put(1, 7, 0, 1),
                lost_put(5, 2),
                put_if(7, 2, Conflict, 3, 4),
            ],
        ),
        (
            "a lost write has a revision nobody was told",
            vec![
                put(1, 7, 0, 1),
                lost_put(5, 2),
                see(Some(5), 30, 3, 4),
                put_if(30, 6, Written(31), 5, 6),
            ],
        ),
        (
            "a lost conditional write happened",
            vec![put(1, 7, 0, 1), lost_put_if(7, 5, 2), see(Some(5), 8, 3, 4)],
        ),
    ];
    for (name, events) in good {
        assert_eq!(judge(&Cas::new(), events), Ok(()), "{name}");
    }
    let bad: &[(&str, Vec<CasEvent>)] = &[
        (
            "a lost update: both win",
            vec![
                put(1, 7, 0, 1),
                put_if(7, 2, Written(9), 2, 9),
                put_if(7, 3, Written(10), 2, 9),
            ],
        ),
        (
            "a conflict without a cause",
            vec![put(1, 7, 0, 1), put_if(7, 2, Conflict, 2, 3)],
        ),
        (
            "a revision goes back",
            vec![put(1, 7, 0, 1), put(2, 6, 2, 3)],
        ),
        (
            "the old record under the new revision",
            vec![put(1, 7, 0, 1), put(2, 8, 2, 3), see(Some(1), 8, 4, 5)],
        ),
        (
            "the new record under the old revision",
            vec![put(1, 7, 0, 1), put(2, 8, 2, 3), see(Some(2), 7, 4, 5)],
        ),
        (
            "one record, two revisions",
            vec![
                put(1, 7, 0, 1),
                see(Some(1), 7, 2, 3),
                see(Some(1), 8, 4, 5),
            ],
        ),
        (
            "a lost write's revision is seen twice, differently",
            vec![lost_put(5, 0), see(Some(5), 3, 1, 2), see(Some(5), 4, 3, 4)],
        ),
        (
            "a lost conditional write happened after the record had moved on",
            vec![
                put(1, 7, 0, 1),
                put(2, 8, 2, 3),
                lost_put_if(7, 5, 4),
                see(Some(5), 9, 5, 6),
            ],
        ),
    ];
    for (name, events) in bad {
        assert!(judge(&Cas::new(), events).is_err(), "{name}");
    }
}

#[test]
fn sets() {
    use set::Op::{Add, Contains, Remove};
    use set::Outcome::{Changed, Is};
    let model = set::Set::<&'static str>::new();
    let done = |op, outcome, from, to| Event::done(1, op, from, to, outcome);
    let good = [
        vec![
            done(Add("web"), Changed(true), 0, 1),
            done(Add("web"), Changed(false), 2, 3),
            done(Remove("web"), Changed(true), 4, 5),
            done(Contains("web"), Is(false), 6, 7),
        ],
        vec![
            Event::unknown(2, Add("web"), 0),
            done(Add("web"), Changed(false), 1, 2),
        ],
        vec![
            done(Add("web"), Changed(true), 0, 1),
            Event::unknown(2, Remove("web"), 2),
            done(Contains("web"), Is(true), 3, 4),
            done(Add("web"), Changed(true), 5, 6),
        ],
        vec![
            done(Add("a"), Changed(true), 0, 1),
            done(Contains("b"), Is(false), 2, 3),
        ],
    ];
    for events in good {
        assert_eq!(judge(&model, &events), Ok(()));
    }
    let bad: &[(&str, Vec<_>)] = &[
        (
            "a name given twice",
            vec![
                done(Add("web"), Changed(true), 0, 9),
                done(Add("web"), Changed(true), 0, 9),
            ],
        ),
        (
            "refused as taken, and it was free",
            vec![done(Add("web"), Changed(false), 0, 1)],
        ),
        (
            "deleted and still there",
            vec![
                done(Add("web"), Changed(true), 0, 1),
                done(Remove("web"), Changed(true), 2, 3),
                done(Contains("web"), Is(true), 4, 5),
            ],
        ),
        (
            "one lost removal explains one absence",
            vec![
                done(Add("web"), Changed(true), 0, 1),
                Event::unknown(2, Remove("web"), 2),
                done(Contains("web"), Is(false), 3, 4),
                done(Add("web"), Changed(true), 5, 6),
                done(Contains("web"), Is(false), 7, 8),
            ],
        ),
    ];
    for (name, events) in bad {
        assert!(judge(&model, events).is_err(), "{name}");
    }
}

#[test]
fn quotas() {
    use counter::Op::{Give, Read, Take};
    use counter::Outcome::{Done, Full, Used};
    let model = counter::Counter::<&'static str>::new(10);
    let done = |op, outcome, from, to| Event::done(1, op, from, to, outcome);
    let take = |amount, outcome, from, to| done(Take("p", amount), outcome, from, to);
    let lost_take = |amount, from| Event::unknown(2, Take("p", amount), from);
    let good: Vec<Vec<_>> = vec![
        vec![
            take(6, Done, 0, 9),
            take(4, Done, 0, 9),
            take(1, Full, 10, 11),
        ],
        vec![
            take(6, Done, 0, 9),
            take(6, Full, 0, 9),
            done(Give("p", 6), Done, 10, 11),
            take(10, Done, 12, 13),
        ],
        vec![lost_take(6, 0), take(6, Full, 1, 2)],
        vec![
            lost_take(6, 0),
            take(6, Done, 1, 2),
            done(Read("p"), Used(6), 3, 4),
        ],
        vec![
            lost_take(2, 0),
            lost_take(2, 0),
            lost_take(2, 0),
            done(Read("p"), Used(4), 1, 2),
            done(Read("p"), Used(6), 3, 4),
        ],
    ];
    for events in good {
        assert_eq!(judge(&model, &events), Ok(()));
    }
    let bad: &[(&str, Vec<_>)] = &[
        (
            "over the limit",
            vec![take(6, Done, 0, 9), take(6, Done, 0, 9)],
        ),
        (
            "refused with room",
            vec![take(6, Done, 0, 1), take(4, Full, 2, 3)],
        ),
        (
            "counted twice",
            vec![take(3, Done, 0, 1), done(Read("p"), Used(6), 2, 3)],
        ),
        (
            "more than was ever lost",
            vec![
                lost_take(2, 0),
                lost_take(2, 0),
                done(Read("p"), Used(6), 1, 2),
            ],
        ),
        (
            "a lost one comes and goes",
            vec![
                lost_take(2, 0),
                done(Read("p"), Used(2), 1, 2),
                done(Read("p"), Used(0), 3, 4),
            ],
        ),
    ];
    for (name, events) in bad {
        assert!(judge(&model, events).is_err(), "{name}");
    }
}
