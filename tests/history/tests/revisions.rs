//! Hand-made sights, good and bad, for the judge of revisions.

use nube_history::{RevisionError, Sight, check};

fn saw(client: u64, called_at: u64, returned_at: u64, revision: u64) -> Sight {
    Sight {
        client,
        called_at,
        returned_at,
        revision,
        wrote: false,
    }
}

fn wrote(client: u64, called_at: u64, returned_at: u64, revision: u64) -> Sight {
    Sight {
        wrote: true,
        ..saw(client, called_at, returned_at, revision)
    }
}

#[test]
fn good_sights() {
    let good: &[(&str, Vec<Sight>)] = &[
        ("nothing", vec![]),
        (
            "forward",
            vec![wrote(1, 0, 1, 5), saw(2, 2, 3, 5), wrote(2, 4, 5, 6)],
        ),
        (
            "side by side in any order",
            vec![wrote(1, 0, 9, 6), wrote(2, 0, 9, 5), saw(3, 1, 8, 2)],
        ),
        (
            "equal times are concurrent",
            vec![wrote(1, 0, 4, 6), saw(2, 4, 5, 5)],
        ),
        (
            "one client's own calls side by side",
            vec![saw(1, 0, 9, 6), saw(1, 1, 8, 5)],
        ),
        (
            "many calls of no length at one moment",
            vec![saw(1, 3, 3, 5), saw(1, 3, 3, 5), saw(1, 3, 4, 6)],
        ),
        ("unsorted", vec![saw(2, 2, 3, 5), wrote(1, 0, 1, 5)]),
    ];
    for (name, sights) in good {
        assert_eq!(check::revisions(sights), Ok(()), "{name}");
    }
}

#[test]
fn a_client_that_goes_back_is_found_even_at_one_moment() {
    for later in [saw(1, 2, 3, 6), saw(1, 9, 10, 6)] {
        let sights = [saw(1, 0, 2, 7), later.clone()];
        assert_eq!(
            check::revisions(&sights),
            Err(RevisionError::WentBack {
                earlier: sights[0].clone(),
                later
            })
        );
    }
}

#[test]
fn a_stale_answer_to_another_client_is_found() {
    let sights = [
        wrote(1, 0, 1, 5),
        wrote(1, 2, 3, 9),
        saw(2, 2, 3, 5),
        saw(3, 4, 5, 8),
    ];
    assert_eq!(
        check::revisions(&sights),
        Err(RevisionError::Stale {
            earlier: sights[1].clone(),
            later: sights[3].clone()
        })
    );
}

#[test]
fn a_mutation_at_a_revision_that_was_seen_before_is_found() {
    let sights = [saw(1, 0, 1, 5), wrote(2, 2, 3, 5)];
    assert!(matches!(
        check::revisions(&sights),
        Err(RevisionError::WrittenBehind { .. })
    ));
}

#[test]
fn two_mutations_of_one_revision_are_found() {
    let sights = [wrote(1, 0, 9, 5), wrote(2, 0, 9, 5)];
    assert!(matches!(
        check::revisions(&sights),
        Err(RevisionError::Twice { .. })
    ));
}
