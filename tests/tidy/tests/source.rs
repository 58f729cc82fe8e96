//! The tree's files keep the rules of shape, words and text.

use anyhow::Result;
use nube_tidy::{assert_clean, shape, text, tree, words};

#[test]
fn files_and_functions_keep_their_shape() -> Result<()> {
    assert_clean(tree::rust_files()?.iter().flat_map(shape::check).collect());
    Ok(())
}

#[test]
fn pure_rooms_use_no_banned_word() -> Result<()> {
    let files = tree::rust_files()?;
    let rooms = words::PURE_ROOMS.iter().chain(words::SEEDED_ROOMS);
    for room in rooms.chain(words::PURE_FILES) {
        let found = files.iter().any(|file| file.path.starts_with(room));
        assert!(found, "no Rust file in {room}: has the room moved?");
    }
    assert_clean(files.iter().flat_map(words::check).collect());
    Ok(())
}

#[test]
fn no_stray_notes_shells_or_machine_paths() -> Result<()> {
    assert_clean(tree::text_files()?.iter().flat_map(text::check).collect());
    Ok(())
}

#[test]
fn pure_rooms_have_their_own_clippy_file() -> Result<()> {
    let files = tree::text_files()?;
    for room in words::PURE_ROOMS.iter().chain(words::SEEDED_ROOMS) {
        let path = room.replace("src/", ".clippy.toml");
        assert!(
            files.iter().any(|file| file.path == path),
            "{path} is missing"
        );
    }
    Ok(())
}
