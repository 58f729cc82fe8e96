//! Hand-made streams, good and bad, for the judge of watches.

use nube_history::{Item, Reference, Stream, WatchError, check};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// Revisions 3, 5 and 8 changed something that the watcher may see.
fn reference() -> Reference {
    [
        (3, texts(&["instance i-1 pending"])),
        (5, texts(&["instance i-1 running", "event e-5"])),
        (8, texts(&["instance i-1 gone"])),
    ]
    .into()
}

fn three() -> Item {
    Item::Changes(3, texts(&["instance i-1 pending"]))
}

fn five() -> Item {
    Item::Changes(5, texts(&["event e-5", "instance i-1 running"]))
}

fn eight() -> Item {
    Item::Changes(8, texts(&["instance i-1 gone"]))
}

fn stream(after: u64, items: Vec<Item>) -> Stream {
    Stream {
        watcher: 1,
        after,
        listed: false,
        items,
    }
}

fn listed(after: u64, items: Vec<Item>) -> Stream {
    Stream {
        listed: true,
        ..stream(after, items)
    }
}

#[test]
fn good_streams() {
    let good: &[(&str, Vec<Stream>)] = &[
        ("nothing yet", vec![stream(0, vec![])]),
        ("all", vec![stream(0, vec![three(), five(), eight()])]),
        ("from the middle", vec![stream(3, vec![five(), eight()])]),
        (
            "with words of progress",
            vec![stream(
                0,
                vec![
                    Item::Progress(2),
                    three(),
                    Item::Progress(4),
                    Item::Progress(4),
                    five(),
                    Item::Progress(7),
                    eight(),
                    Item::Progress(80),
                ],
            )],
        ),
        (
            "cut and resumed",
            vec![
                stream(0, vec![three()]),
                stream(3, vec![]),
                stream(3, vec![five(), Item::Progress(6)]),
                stream(6, vec![eight()]),
            ],
        ),
        (
            "compacted, listed anew",
            vec![
                stream(0, vec![three()]),
                stream(3, vec![Item::Compacted]),
                listed(6, vec![eight()]),
            ],
        ),
        (
            "two watchers",
            vec![
                stream(0, vec![three()]),
                Stream {
                    watcher: 2,
                    ..stream(5, vec![eight()])
                },
                stream(3, vec![five()]),
            ],
        ),
    ];
    for (name, streams) in good {
        assert_eq!(check::watch(&reference(), streams), Ok(()), "{name}");
    }
}

#[test]
fn repetitions_and_reordering_are_found() {
    for items in [
        vec![three(), three()],
        vec![three(), five(), three()],
        vec![three(), five(), Item::Progress(4)],
        vec![three(), Item::Progress(5), five()],
    ] {
        let found = check::watch(&reference(), &[stream(0, items)]);
        assert!(
            matches!(found, Err(WatchError::Back { .. } | WatchError::Gap { .. })),
            "{found:?}"
        );
    }
}

#[test]
fn gaps_are_found() {
    for (streams, missed) in [
        (vec![stream(0, vec![three(), eight()])], 5),
        (vec![stream(0, vec![five()])], 3),
        (
            vec![stream(0, vec![three(), Item::Progress(5), eight()])],
            5,
        ),
        (vec![stream(0, vec![three()]), stream(3, vec![eight()])], 5),
    ] {
        let found = check::watch(&reference(), &streams);
        assert!(
            matches!(found, Err(WatchError::Gap { missed: named, .. }) if named == missed),
            "{found:?}"
        );
    }
}

#[test]
fn half_revisions_and_other_contents_are_found() {
    for came in [
        texts(&["instance i-1 running"]),
        texts(&["instance i-1 running", "event e-5", "event e-5"]),
        texts(&["instance i-1 stopped", "event e-5"]),
        vec![],
    ] {
        let found = check::watch(&reference(), &[stream(3, vec![Item::Changes(5, came)])]);
        assert!(
            matches!(found, Err(WatchError::Other { revision: 5, .. })),
            "{found:?}"
        );
    }
    let never = Item::Changes(4, texts(&["instance i-9 running"]));
    let found = check::watch(&reference(), &[stream(3, vec![never])]);
    assert!(
        matches!(found, Err(WatchError::Other { revision: 4, .. })),
        "{found:?}"
    );
}

#[test]
fn going_back_or_forward_at_resumption_is_found() {
    for after in [0, 3, 6] {
        let streams = [stream(0, vec![three(), five()]), stream(after, vec![])];
        assert_eq!(
            check::watch(&reference(), &streams),
            Err(WatchError::Resumed {
                watcher: 1,
                after,
                covered: 5
            })
        );
    }
}

#[test]
fn going_on_over_a_compaction_is_found() {
    for streams in [
        vec![stream(0, vec![three(), Item::Compacted, eight()])],
        vec![
            stream(0, vec![three(), Item::Compacted]),
            stream(3, vec![five()]),
        ],
    ] {
        assert_eq!(
            check::watch(&reference(), &streams),
            Err(WatchError::WentOn { watcher: 1 })
        );
    }
    let streams = [
        stream(0, vec![three(), five(), Item::Compacted]),
        listed(4, vec![five()]),
    ];
    assert_eq!(
        check::watch(&reference(), &streams),
        Err(WatchError::OldList {
            watcher: 1,
            after: 4,
            covered: 5
        })
    );
}
